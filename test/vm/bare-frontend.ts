import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { within } from './deferred.js';

const HEADER = 12;
const VERSION = 1;
const REPLY = 4;

/** vhost-user requests that take and give no descriptors. */
export const GET_FEATURES = 1;

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

/** A frontend that is no more than a socket: it sends the bytes it is told to. */
export class BareFrontend {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (data: Buffer) => (this.#received = Buffer.concat([this.#received, data])));
  }

  static async connect(path: string): Promise<BareFrontend> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new BareFrontend(socket);
  }

  send(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  /** The next `length` bytes that the device sent. */
  async receive(length: number, timeout: number): Promise<Buffer> {
    while (this.#received.length < length) {
      await within(once(this.#socket, 'data'), timeout, 'bytes from the device');
    }
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  async close(): Promise<void> {
    if (this.#socket.destroyed) return;
    const closed = once(this.#socket, 'close');
    this.#socket.destroy();
    await closed;
  }
}
