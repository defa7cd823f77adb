import { VfioUserError } from './errors.js';

/** 2^64: sums of wire addresses are compared with it before anything is narrowed. */
const U64_SPACE = 1n << 64n;

/** A u64 that has to fit a safe integer. @throws VfioUserError ERANGE */
export function narrow(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new VfioUserError('ERANGE', `${what} ${hex(value)} is 2^53 or more`);
  }
  return Number(value);
}

/** Refuses a range whose end is beyond 2^64. @throws VfioUserError EINVAL */
export function checkU64Range(start: bigint, length: bigint, what: string): void {
  if (start + length > U64_SPACE) {
    throw new VfioUserError('EINVAL', `${what} ${hex(start)} + ${hex(length)} overflows`);
  }
}

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/**
 * Reads little-endian fields of one payload in order. The protocol is in host order; all hosts that
 * Node runs on here are little-endian.
 */
export class WireReader {
  readonly #view: DataView;
  #offset = 0;

  /**
   * @param minimum bytes that the fixed part needs; later reads inside it cannot fail
   * @throws VfioUserError EINVAL when the payload is shorter
   */
  constructor(
    private readonly payload: Uint8Array,
    minimum: number,
    what: string,
  ) {
    if (payload.length < minimum) {
      throw new VfioUserError(
        'EINVAL',
        `${what}: payload of ${payload.length} bytes, needs ${minimum}`,
      );
    }
    this.#view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  }

  get remaining(): number {
    return this.payload.length - this.#offset;
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#advance(8), true);
  }

  /** A window on the payload: valid as long as the payload is. */
  bytes(length: number): Uint8Array {
    const start = this.#advance(length);
    return this.payload.subarray(start, start + length);
  }

  #advance(length: number): number {
    const start = this.#offset;
    if (length > this.payload.length - start) {
      throw new VfioUserError('EINVAL', `payload ends at ${this.payload.length}, needs more`);
    }
    this.#offset = start + length;
    return start;
  }
}

/** Writes little-endian fields of one payload of a known size in order. */
export class WireWriter {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  u16(value: number): this {
    this.#view.setUint16(this.#advance(2), value, true);
    return this;
  }

  u32(value: number): this {
    this.#view.setUint32(this.#advance(4), value, true);
    return this;
  }

  /** Takes a negative value as its two's complement. */
  u64(value: bigint | number): this {
    this.#view.setBigUint64(this.#advance(8), BigInt.asUintN(64, BigInt(value)), true);
    return this;
  }

  put(bytes: Uint8Array): this {
    this.bytes.set(bytes, this.#advance(bytes.length));
    return this;
  }

  #advance(length: number): number {
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}
