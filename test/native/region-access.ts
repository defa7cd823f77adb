import { native } from '../../src/native.js';
import type { NativeFastRegions, NativeMemory, NativeSocket } from '../../src/native.js';
import { Recorder, vfioUser } from './helpers.js';

export const READ = 9;
const WRITE = 10;
export const NO_REPLY = 0x10;

interface Fields {
  command?: number;
  flags?: number;
  offset?: bigint | number;
  region?: number;
  count?: number;
  data?: Buffer;
}

/** A region access, laid out by hand: header (16), u64 offset, u32 region, u32 count, data. */
export function access(id: number, fields: Fields): Buffer {
  const data = fields.data ?? Buffer.alloc(0);
  const bytes = Buffer.alloc(32 + data.length);
  bytes.writeUInt16LE(id, 0);
  bytes.writeUInt16LE(fields.command ?? READ, 2);
  bytes.writeUInt32LE(bytes.length, 4);
  bytes.writeUInt32LE(fields.flags ?? 0, 8);
  bytes.writeBigUInt64LE(BigInt(fields.offset ?? 0), 16);
  bytes.writeUInt32LE(fields.region ?? 4, 24);
  bytes.writeUInt32LE(fields.count ?? data.length, 28);
  data.copy(bytes, 32);
  return bytes;
}

export const write = (id: number, fields: Fields): Buffer =>
  access(id, { command: WRITE, ...fields });

export interface Setup {
  readonly regions: NativeFastRegions;
  readonly socket: NativeSocket;
  /** What reached the server's JavaScript. */
  readonly server: Recorder;
  readonly client: NativeSocket;
  /** What the client got. */
  readonly replies: Recorder;
  readonly close: () => Promise<void>;
}

export function setup(): Setup {
  const [socket, client] = native.socketPair();
  const regions = native.createFastRegions();
  const server = new Recorder();
  const replies = new Recorder();
  socket.attachFastRegions(regions);
  socket.start(vfioUser, server);
  client.start(vfioUser, replies);
  const close = async (): Promise<void> => {
    socket.close();
    client.close();
    regions.close();
    await server.end();
    await replies.end();
  };
  return { regions, socket, server, client, replies, close };
}

export function memory(size: number, writable = true): NativeMemory {
  const fd = native.createMemfd('window', size);
  const result = native.map(fd, { offset: 0, length: size, writable });
  native.closeFd(fd);
  return result;
}
