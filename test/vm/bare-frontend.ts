import { native, type NativeSocket } from '../../src/native.js';
import { deferred, within, type Deferred } from './deferred.js';

const HEADER = 12;
const VERSION = 1;
const REPLY = 4;

/** vhost-user requests, as QEMU's docs/interop/vhost-user.rst numbers them. */
export const GET_FEATURES = 1;
export const SET_MEM_TABLE = 5;
export const SET_VRING_KICK = 12;
export const SET_VRING_CALL = 13;

/** A vhost-user message: u32 request, u32 flags, u32 size, payload. Little-endian, as x86 is. */
export function message(request: number, flags: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(request, 0);
  header.writeUInt32LE(flags, 4);
  header.writeUInt32LE(payload.length, 8);
  return Buffer.concat([header, payload]);
}

export const request = (id: number, payload?: Buffer): Buffer => message(id, VERSION, payload);
export const reply = (id: number, payload?: Buffer): Buffer =>
  message(id, VERSION | REPLY, payload);

/** A payload of one u64. */
export function u64(value: bigint): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeBigUInt64LE(value);
  return payload;
}

export interface Region {
  readonly guestAddress: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  readonly mmapOffset: bigint;
}

/** The payload of SET_MEM_TABLE: u32 count, u32 padding, four u64 for each region. */
export function memoryTable(regions: readonly Region[]): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(regions.length);
  const rows = regions.flatMap((one) => [
    u64(one.guestAddress),
    u64(one.size),
    u64(one.userAddress),
    u64(one.mmapOffset),
  ]);
  return Buffer.concat([header, ...rows]);
}

/** The other way round. */
export function readMemoryTable(payload: Buffer): Region[] {
  return Array.from({ length: payload.readUInt32LE(0) }, (_, index) => {
    const field = (at: number): bigint => payload.readBigUInt64LE(8 + 32 * index + at);
    return {
      guestAddress: field(0),
      size: field(8),
      userAddress: field(16),
      mmapOffset: field(24),
    };
  });
}

/** A frontend that is no more than a socket: it sends the bytes and descriptors it is told to. */
export class BareFrontend {
  readonly #socket: NativeSocket;
  readonly #closed = deferred<undefined>();
  readonly #messages: Buffer[] = [];
  #next: Deferred<Buffer> | undefined;

  private constructor(socket: NativeSocket) {
    this.#socket = socket;
    const framing = { headerSize: HEADER, lengthOffset: 8, lengthIncludesHeader: false };
    socket.start(
      { ...framing, maxMessage: 4096, maxFds: 8 },
      {
        message: (bytes, fds) => this.#receive(bytes, fds),
        closed: () => this.#closed.resolve(undefined),
      },
    );
  }

  static connect(path: string): BareFrontend {
    return new BareFrontend(native.connect(path));
  }

  /** The descriptors stay the caller's. */
  send(bytes: Buffer, fds: readonly number[] = []): void {
    this.#socket.send(bytes, fds);
  }

  /** The next message from the device. */
  async receive(timeout: number): Promise<Buffer> {
    const waiting = this.#messages.shift();
    if (waiting !== undefined) return waiting;
    this.#next = deferred<Buffer>();
    return within(this.#next.promise, timeout, 'a message from the device');
  }

  async close(): Promise<void> {
    this.#socket.close();
    await this.#closed.promise;
  }

  #receive(bytes: Buffer, fds: readonly number[]): void {
    for (const fd of fds) native.closeFd(fd);
    if (this.#next === undefined) this.#messages.push(bytes);
    else this.#next.resolve(bytes);
    this.#next = undefined;
  }
}
