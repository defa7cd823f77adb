import type { TestFds } from './raw-peer.js';

/**
 * What a vhost-user frontend can send that it should not, as bytes put together here from the
 * specification, and what must come of it.
 */
export interface VhostUserInput {
  readonly name: string;
  readonly bytes: Buffer;
  readonly fds?: (make: TestFds) => number[];
  /**
   * `refused`: a non-zero acknowledgement, the connection goes on. `dropped`: the connection ends.
   * `waits`: nothing happens until the peer goes.
   */
  readonly outcome: 'refused' | 'dropped' | 'waits';
}

const NEED_REPLY = 1 << 3;
const REPLY = 1 << 2;
const VERSION = 1;

const words = (size: 4 | 8, values: readonly (number | bigint)[]): Buffer => {
  const bytes = Buffer.alloc(size * values.length);
  values.forEach((value, i) => {
    if (size === 4) bytes.writeUInt32LE(Number(value), 4 * i);
    else bytes.writeBigUInt64LE(BigInt(value), 8 * i);
  });
  return bytes;
};
export const u32 = (...values: number[]): Buffer => words(4, values);
export const u64 = (...values: (number | bigint)[]): Buffer => words(8, values);

/** u32 request, u32 flags, u32 size, payload. */
export function request(
  id: number,
  payload: Buffer = Buffer.alloc(0),
  { flags = VERSION | NEED_REPLY, size = payload.length } = {},
): Buffer {
  return Buffer.concat([u32(id, flags >>> 0, size), payload]);
}

/** Guest address, size, user address, mmap offset. */
export const region = (
  guest: number | bigint,
  size: number | bigint,
  offset: number | bigint = 0,
) => u64(guest, size, 0x7000_0000_0000n + BigInt(guest), offset);
export const table = (...regions: Buffer[]): Buffer =>
  request(5, Buffer.concat([u32(regions.length, 0), ...regions]));
const one = (size: number) => (make: TestFds) => [make.memory(size)];

const MIB = 2 ** 20;
const WINDOW = 64 * MIB;
const NO_FD = 1 << 8;
const LAST = 2n ** 64n;

const frames: VhostUserInput[] = [
  { name: 'half a header', bytes: request(1).subarray(0, 5), outcome: 'waits' },
  {
    name: 'a header without its payload',
    bytes: request(2, undefined, { size: 8 }),
    outcome: 'waits',
  },
  {
    name: 'a payload of 2^32 - 1 bytes',
    bytes: request(5, undefined, { size: 2 ** 32 - 1 }),
    outcome: 'dropped',
  },
  { name: 'version 0', bytes: request(1, undefined, { flags: 0 }), outcome: 'dropped' },
  { name: 'version 3', bytes: request(1, undefined, { flags: 3 }), outcome: 'dropped' },
  {
    name: 'a reply from the frontend',
    bytes: request(1, u64(0), { flags: VERSION | REPLY }),
    outcome: 'dropped',
  },
  { name: 'request 0', bytes: request(0), outcome: 'refused' },
  { name: 'request 45', bytes: request(45), outcome: 'refused' },
  {
    name: 'request 2^32 - 1 with 8 fds',
    bytes: request(2 ** 32 - 1),
    fds: (make) => Array.from({ length: 8 }, () => make.eventfd()),
    outcome: 'refused',
  },
  {
    name: 'more fds than any message has',
    bytes: request(3),
    fds: (make) => Array.from({ length: 200 }, () => make.eventfd()),
    outcome: 'dropped',
  },
  { name: 'GET_FEATURES with a payload', bytes: request(1, u64(0)), outcome: 'dropped' },
  { name: 'SET_FEATURES of 4 bytes', bytes: request(2, u32(0)), outcome: 'refused' },
  {
    name: 'SET_FEATURES that nobody offered',
    bytes: request(2, u64(1n << 63n)),
    outcome: 'refused',
  },
  {
    name: 'SET_PROTOCOL_FEATURES that were masked',
    bytes: request(16, u64(1 << 8)),
    outcome: 'refused',
  },
  {
    name: 'an unknown request without need_reply',
    bytes: request(99, undefined, { flags: VERSION }),
    outcome: 'waits',
  },
];

const memory: VhostUserInput[] = [
  { name: 'a table without fds', bytes: table(region(0, MIB)), outcome: 'refused' },
  {
    name: 'a table with an fd too many',
    bytes: table(region(0, MIB)),
    fds: (make) => [make.memory(MIB), make.memory(MIB)],
    outcome: 'refused',
  },
  {
    name: 'a table of 9 regions',
    bytes: table(...Array.from({ length: 9 }, (_, i) => region(i * MIB, MIB))),
    outcome: 'refused',
  },
  {
    name: 'a table whose count lies',
    bytes: request(5, Buffer.concat([u32(3, 0), region(0, MIB)])),
    fds: one(MIB),
    outcome: 'refused',
  },
  { name: 'a region of size 0', bytes: table(region(0, 0)), fds: one(MIB), outcome: 'refused' },
  {
    name: 'a region across 2^64',
    bytes: request(5, Buffer.concat([u32(1, 0), u64(LAST - 4096n, 8192, 0, 0)])),
    fds: one(MIB),
    outcome: 'refused',
  },
  {
    name: 'a region past the end of its file',
    bytes: table(region(0, 2 * MIB)),
    fds: one(MIB),
    outcome: 'refused',
  },
  {
    name: 'a region whose mmap_offset overflows',
    bytes: table(region(0, 4096, LAST - 4096n)),
    fds: one(MIB),
    outcome: 'refused',
  },
  {
    name: 'a region larger than the window',
    bytes: table(region(0, 2 * WINDOW)),
    fds: one(2 * WINDOW),
    outcome: 'refused',
  },
  {
    name: 'regions that overlap',
    bytes: table(region(0, MIB), region(4096, MIB)),
    fds: (make) => [make.memory(MIB), make.memory(MIB)],
    outcome: 'refused',
  },
  {
    name: 'a region whose fd is an eventfd',
    bytes: table(region(0, 4096)),
    fds: (make) => [make.eventfd()],
    outcome: 'refused',
  },
  {
    name: 'a region whose fd is read-only',
    bytes: table(region(0, 1)),
    fds: (make) => [make.readOnlyFile()],
    outcome: 'refused',
  },
  {
    name: 'ADD_MEM_REG without an fd',
    bytes: request(37, Buffer.concat([u64(0), region(0, MIB)])),
    outcome: 'refused',
  },
  {
    name: 'ADD_MEM_REG past the end of its file',
    bytes: request(37, Buffer.concat([u64(0), region(0, 2 * MIB)])),
    fds: one(MIB),
    outcome: 'refused',
  },
  {
    name: 'REM_MEM_REG of what was not added',
    bytes: request(38, Buffer.concat([u64(0), region(0, MIB)])),
    outcome: 'refused',
  },
];

const vrings: VhostUserInput[] = [
  {
    name: 'SET_VRING_ADDR before a memory table',
    bytes: request(9, Buffer.concat([u32(0, 0), u64(0, 0, 0, 0)])),
    outcome: 'refused',
  },
  { name: 'SET_VRING_NUM of 0', bytes: request(8, u32(0, 0)), outcome: 'refused' },
  { name: 'SET_VRING_NUM of 65536', bytes: request(8, u32(0, 65536)), outcome: 'refused' },
  {
    name: 'SET_VRING_NUM of vring 2^32 - 1',
    bytes: request(8, u32(2 ** 32 - 1, 256)),
    outcome: 'refused',
  },
  { name: 'SET_VRING_BASE above 16 bits', bytes: request(10, u32(0, 0x10000)), outcome: 'refused' },
  { name: 'GET_VRING_BASE of vring 70000', bytes: request(11, u32(70000, 0)), outcome: 'dropped' },
  { name: 'SET_VRING_ENABLE with 2', bytes: request(18, u32(0, 2)), outcome: 'refused' },
  {
    name: 'a kick without fd and without the no-fd flag',
    bytes: request(12, u64(0)),
    outcome: 'refused',
  },
  {
    name: 'a call without fd and without the no-fd flag',
    bytes: request(13, u64(0)),
    outcome: 'refused',
  },
  {
    name: 'a kick with fd and with the no-fd flag',
    bytes: request(12, u64(NO_FD)),
    fds: (make) => [make.eventfd()],
    outcome: 'refused',
  },
  {
    name: 'a kick whose fd is a memfd',
    bytes: request(12, u64(0)),
    fds: one(4096),
    outcome: 'refused',
  },
  {
    name: 'a call whose fd is a regular file',
    bytes: request(13, u64(0)),
    fds: (make) => [make.readOnlyFile()],
    outcome: 'refused',
  },
  {
    name: 'an err whose fd is a memfd',
    bytes: request(14, u64(0)),
    fds: one(4096),
    outcome: 'refused',
  },
  {
    name: 'a kick of vring 255 of 64',
    bytes: request(12, u64(255)),
    fds: (make) => [make.eventfd()],
    outcome: 'refused',
  },
  { name: 'SET_LOG_FD whose fd is a memfd', bytes: request(7), fds: one(4096), outcome: 'refused' },
  {
    name: 'SET_BACKEND_REQ_FD whose fd is an eventfd',
    bytes: request(21),
    fds: (make) => [make.eventfd()],
    outcome: 'refused',
  },
  {
    name: 'SET_BACKEND_REQ_FD whose fd is a memfd',
    bytes: request(21),
    fds: one(4096),
    outcome: 'refused',
  },
  { name: 'SET_BACKEND_REQ_FD without an fd', bytes: request(21), outcome: 'refused' },
  {
    name: 'GET_INFLIGHT_FD, which the backend does not offer',
    bytes: request(31, Buffer.alloc(24)),
    outcome: 'dropped',
  },
];

export const VHOST_USER_INPUTS: readonly VhostUserInput[] = [...frames, ...memory, ...vrings];
