import { VvuError } from '../errors.js';

/** Native order on a socket, always little-endian towards a guest (virtio-vhost-user). */
export type ByteOrder = 'LE' | 'BE';

/** A payload type: sizes, syntax and text form in one place. Knows nothing of a session. */
export interface PayloadCodec<T> {
  /** The specification's name for the payload. */
  readonly name: string;
  readonly minSize: number;
  readonly maxSize: number;
  /**
   * Proves size, reserved bits and overflow. The result shares no memory with `bytes`.
   * @throws VvuError of scope `request`: `BAD_PAYLOAD_SIZE` or `BAD_PAYLOAD`
   */
  decode(bytes: Uint8Array, order: ByteOrder): T;
  encode(value: T, order: ByteOrder): Buffer;
  /** The fields on one line, `name=value`, empty for an empty payload. */
  describe(value: T): string;
}

/** The value type of a codec. */
export type PayloadOf<C> = C extends PayloadCodec<infer T> ? T : never;

/** An empty payload ("N/A" in the specification). */
export type NoPayload = undefined;

export function badSize(name: string, size: number, expected: string): VvuError {
  return new VvuError(
    'BAD_PAYLOAD_SIZE',
    'request',
    `${name}: payload of ${size} bytes, expected ${expected}`,
  );
}

export function badPayload(name: string, detail: string): VvuError {
  return new VvuError('BAD_PAYLOAD', 'request', `${name}: ${detail}`);
}

/** Hexadecimal, as addresses, masks and sizes are read most easily. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** A DataView over exactly the bytes of an array that may be part of a larger buffer. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
