import type { TestFds } from './raw-peer.js';
import { message, u32, u64, version } from './vfio-user-bytes.js';

/**
 * What a vfio-user client can send that it should not, as bytes put together here from the
 * specification, and what must come of it: an errno reply, or the end of the connection.
 */
export interface VfioUserInput {
  readonly name: string;
  /** Sent first on its connection, before any VERSION. */
  readonly fresh?: boolean;
  readonly bytes: Buffer;
  readonly fds?: (make: TestFds) => number[];
  /** `closed`, an errno, or `nothing` for a message that must not be answered. */
  readonly outcome: 'closed' | 'nothing' | number;
}

const EINVAL = 22;
const EEXIST = 17;
const ENOTSUP = 95;
const ENOSYS = 38;
const ERANGE = 34;

/** argsz, flags, offset, address, size. */
const dmaMap = (flags: number, offset: bigint, address: bigint, size: bigint): Buffer =>
  message(2, Buffer.concat([u32(32, flags), u64(offset, address, size)]));
const dmaUnmap = (flags: number, address: bigint, size: bigint): Buffer =>
  message(3, Buffer.concat([u32(24, flags), u64(address, size)]));
/** offset, region, count. */
const access = (offset: bigint, region: number, count: number): Buffer =>
  Buffer.concat([u64(offset), u32(region, count)]);
const setIrqs = (flags: number, index: number, start: number, count: number): Buffer =>
  message(8, u32(20, flags, index, start, count));

const RW = 3;
const PAGE = 4096n;
const HUGE_COUNT = 0xffff_ffff;
/** DATA_EVENTFD | ACTION_TRIGGER, and other data kinds. */
const EVENTFD_TRIGGER = (1 << 2) | (1 << 5);
const BOOL_TRIGGER = (1 << 1) | (1 << 5);
const NONE_TRIGGER = 1 | (1 << 5);
const MSIX = 2;
const CONFIG_REGION = 7;

const beforeVersion: VfioUserInput[] = [
  {
    name: 'a header that announces 0 bytes',
    bytes: message(1, undefined, { size: 0 }),
    outcome: 'closed',
  },
  {
    name: 'a header that announces 15 bytes',
    bytes: message(1, undefined, { size: 15 }),
    outcome: 'closed',
  },
  {
    name: 'a header that announces 2^32 - 1 bytes',
    bytes: message(1, undefined, { size: HUGE_COUNT }),
    outcome: 'closed',
  },
  { name: 'half a header and then the end', bytes: message(1).subarray(0, 7), outcome: 'nothing' },
  {
    name: 'half a message and then the end',
    bytes: message(1, undefined, { size: 64 }),
    outcome: 'nothing',
  },
  { name: 'a command before VERSION', bytes: message(4, u32(16, 0, 0, 0)), outcome: EINVAL },
  { name: 'VERSION without a payload', bytes: message(1), outcome: EINVAL },
  { name: 'VERSION with major 1', bytes: version('{}', 1), outcome: ENOTSUP },
  { name: 'VERSION that is no JSON', bytes: version('{"capabilities":'), outcome: EINVAL },
  { name: 'VERSION whose JSON is an array', bytes: version('[1,2]'), outcome: EINVAL },
  {
    name: 'VERSION whose JSON does not end in NUL',
    bytes: version('{}').subarray(0, -1),
    outcome: 'nothing',
  },
  {
    name: 'VERSION with max_msg_fds of -1',
    bytes: version('{"capabilities":{"max_msg_fds":-1}}'),
    outcome: EINVAL,
  },
  {
    name: 'VERSION with a transfer size of "big"',
    bytes: version('{"capabilities":{"max_data_xfer_size":"big"}}'),
    outcome: EINVAL,
  },
  {
    name: 'VERSION with 100,000 nested arrays',
    bytes: version(`{"a":${'['.repeat(100_000)}`),
    outcome: EINVAL,
  },
  {
    name: 'VERSION with an fd',
    bytes: version('{}'),
    fds: (make) => [make.eventfd()],
    outcome: EINVAL,
  },
  {
    name: 'a reply that nobody waits for, first',
    bytes: message(1, undefined, { flags: 1 }),
    outcome: 'nothing',
  },
];

const headers: VfioUserInput[] = [
  { name: 'a second VERSION', bytes: version('{}'), outcome: EINVAL },
  { name: 'command 0', bytes: message(0), outcome: ENOSYS },
  { name: 'command 14, which was given up', bytes: message(14), outcome: ENOSYS },
  { name: 'command 0xffff', bytes: message(0xffff), outcome: ENOSYS },
  {
    name: 'the extension command in the wrong direction',
    bytes: message(0x8001, u32(0, 0)),
    outcome: EINVAL,
  },
  {
    name: 'a server command (DMA_READ) from the client',
    bytes: message(11, u64(0n, 16n)),
    outcome: EINVAL,
  },
  { name: 'message type 2', bytes: message(13, undefined, { flags: 2 }), outcome: EINVAL },
  {
    name: 'a reply that nobody waits for',
    bytes: message(11, undefined, { flags: 1 }),
    outcome: 'nothing',
  },
  {
    name: '17 fds with one message',
    bytes: message(13),
    fds: (make) => Array.from({ length: 17 }, () => make.eventfd()),
    outcome: EINVAL,
  },
  { name: 'DEVICE_RESET with a payload', bytes: message(13, u32(1)), outcome: EINVAL },
  {
    name: 'DEVICE_RESET with an fd',
    bytes: message(13),
    fds: (make) => [make.eventfd()],
    outcome: EINVAL,
  },
];

const information: VfioUserInput[] = [
  { name: 'GET_INFO that is cut short', bytes: message(4, u32(16)), outcome: EINVAL },
  { name: 'GET_INFO with argsz 8', bytes: message(4, u32(8, 0, 0, 0)), outcome: EINVAL },
  {
    name: 'GET_REGION_INFO of region 9',
    bytes: message(5, Buffer.concat([u32(32, 0, 9, 0), u64(0n, 0n)])),
    outcome: EINVAL,
  },
  {
    name: 'GET_REGION_INFO of region 2^32 - 1',
    bytes: message(5, Buffer.concat([u32(32, 0, HUGE_COUNT, 0), u64(0n, 0n)])),
    outcome: EINVAL,
  },
  {
    name: 'GET_REGION_INFO with argsz 31',
    bytes: message(5, Buffer.concat([u32(31, 0, 0, 0), u64(0n, 0n)])),
    outcome: EINVAL,
  },
  { name: 'GET_REGION_IO_FDS of region 99', bytes: message(6, u32(16, 0, 99, 0)), outcome: EINVAL },
  { name: 'GET_IRQ_INFO of index 5', bytes: message(7, u32(16, 0, 5, 0)), outcome: EINVAL },
  {
    name: 'DEVICE_FEATURE of an unknown feature',
    bytes: message(16, u32(8, 0x1_ffff)),
    outcome: ENOTSUP,
  },
  { name: 'a migration command', bytes: message(17, u32(16, 0)), outcome: ENOTSUP },
];

const regions: VfioUserInput[] = [
  {
    name: 'REGION_READ of 0 bytes',
    bytes: message(9, access(0n, CONFIG_REGION, 0)),
    outcome: EINVAL,
  },
  {
    name: 'REGION_READ of 2^32 - 1 bytes',
    bytes: message(9, access(0n, CONFIG_REGION, HUGE_COUNT)),
    outcome: EINVAL,
  },
  {
    name: 'REGION_READ behind the end',
    bytes: message(9, access(4096n, CONFIG_REGION, 4)),
    outcome: EINVAL,
  },
  {
    name: 'REGION_READ across the end',
    bytes: message(9, access(4094n, CONFIG_REGION, 4)),
    outcome: EINVAL,
  },
  {
    name: 'REGION_READ at 2^64 - 4',
    bytes: message(9, access(2n ** 64n - 4n, 4, 8)),
    outcome: EINVAL,
  },
  {
    name: 'REGION_READ of a region without bytes',
    bytes: message(9, access(0n, 6, 4)),
    outcome: EINVAL,
  },
  { name: 'REGION_READ of region 77', bytes: message(9, access(0n, 77, 4)), outcome: EINVAL },
  { name: 'REGION_READ cut short', bytes: message(9, u64(0n)), outcome: EINVAL },
  {
    name: 'REGION_READ with data',
    bytes: message(9, Buffer.concat([access(0n, 0, 4), u32(1)])),
    outcome: EINVAL,
  },
  {
    name: 'REGION_READ with an fd',
    bytes: message(9, access(0n, 0, 4)),
    fds: (make) => [make.eventfd()],
    outcome: EINVAL,
  },
  {
    name: 'REGION_WRITE whose count is larger than its data',
    bytes: message(10, Buffer.concat([access(0n, 0, 8), u32(1)])),
    outcome: EINVAL,
  },
  {
    name: 'REGION_WRITE whose count is smaller than its data',
    bytes: message(10, Buffer.concat([access(0n, 2, 2), u32(1)])),
    outcome: EINVAL,
  },
  {
    name: 'REGION_WRITE behind the window',
    bytes: message(10, Buffer.concat([access(2n ** 40n, 4, 4), u32(1)])),
    outcome: EINVAL,
  },
  {
    name: 'REGION_WRITE that wants no reply, behind the end',
    bytes: message(10, Buffer.concat([access(2n ** 40n, 4, 4), u32(1)]), { flags: 0x10 }),
    outcome: 'nothing',
  },
  {
    name: 'REGION_WRITE_MULTI whose count exceeds its entries',
    bytes: message(15, u64(200n)),
    outcome: EINVAL,
  },
  {
    name: 'REGION_WRITE_MULTI of 2^64 - 1 entries',
    bytes: message(15, u64(2n ** 64n - 1n)),
    outcome: EINVAL,
  },
];

const dma: VfioUserInput[] = [
  { name: 'DMA_MAP cut short', bytes: message(2, u32(32, RW)), outcome: EINVAL },
  { name: 'DMA_MAP of 0 bytes', bytes: dmaMap(RW, 0n, 0n, 0n), outcome: EINVAL },
  {
    name: 'DMA_MAP of an unaligned address',
    bytes: dmaMap(RW, 0n, 0x1001n, PAGE),
    outcome: EINVAL,
  },
  { name: 'DMA_MAP of an unaligned size', bytes: dmaMap(RW, 0n, 0n, 100n), outcome: EINVAL },
  {
    name: 'DMA_MAP across 2^64',
    bytes: dmaMap(RW, 0n, 2n ** 64n - PAGE, 2n * PAGE),
    outcome: EINVAL,
  },
  { name: 'DMA_MAP at 2^60', bytes: dmaMap(RW, 0n, 2n ** 60n, PAGE), outcome: ERANGE },
  { name: 'DMA_MAP with unknown flags', bytes: dmaMap(0xf0, 0n, 0n, PAGE), outcome: EINVAL },
  {
    name: 'DMA_MAP behind the end of its file',
    bytes: dmaMap(RW, PAGE, 0x10000n, PAGE),
    fds: (make) => [make.memory(4096)],
    outcome: EINVAL,
  },
  {
    name: 'DMA_MAP whose offset overflows',
    bytes: dmaMap(RW, 2n ** 64n - PAGE, 0x10000n, PAGE),
    fds: (make) => [make.memory(4096)],
    outcome: ERANGE,
  },
  {
    name: 'DMA_MAP of an eventfd',
    bytes: dmaMap(RW, 0n, 0x10000n, PAGE),
    fds: (make) => [make.eventfd()],
    outcome: EINVAL,
  },
  {
    name: 'DMA_MAP for writing of a read-only file',
    bytes: dmaMap(RW, 0n, 0x10000n, PAGE),
    fds: (make) => [make.readOnlyFile()],
    outcome: EINVAL,
  },
  {
    name: 'DMA_MAP with two fds',
    bytes: dmaMap(RW, 0n, 0x10000n, PAGE),
    fds: (make) => [make.memory(4096), make.memory(4096)],
    outcome: EINVAL,
  },
  {
    name: 'DMA_MAP over a map that exists',
    bytes: dmaMap(RW, 0n, 0x100000n, 2n * PAGE),
    outcome: EEXIST,
  },
  { name: 'DMA_UNMAP of a part of a map', bytes: dmaUnmap(0, 0x100000n, PAGE), outcome: EINVAL },
  { name: 'DMA_UNMAP of all with an address', bytes: dmaUnmap(2, PAGE, PAGE), outcome: EINVAL },
  {
    name: 'DMA_UNMAP that wants a dirty bitmap',
    bytes: dmaUnmap(1, 0x100000n, 4n * PAGE),
    outcome: ENOTSUP,
  },
];

const interrupts: VfioUserInput[] = [
  { name: 'SET_IRQS cut short', bytes: message(8, u32(20, NONE_TRIGGER)), outcome: EINVAL },
  { name: 'SET_IRQS of index 9', bytes: setIrqs(NONE_TRIGGER, 9, 0, 1), outcome: EINVAL },
  { name: 'SET_IRQS with no action', bytes: setIrqs(1, MSIX, 0, 1), outcome: EINVAL },
  {
    name: 'SET_IRQS with two actions',
    bytes: setIrqs(1 | (1 << 4) | (1 << 5), MSIX, 0, 1),
    outcome: EINVAL,
  },
  {
    name: 'SET_IRQS with two kinds of data',
    bytes: setIrqs(3 | (1 << 5), MSIX, 0, 1),
    outcome: EINVAL,
  },
  {
    name: 'SET_IRQS behind the last vector',
    bytes: setIrqs(NONE_TRIGGER, MSIX, 5000, 1),
    outcome: EINVAL,
  },
  {
    name: 'SET_IRQS of start + count over 2^32',
    bytes: setIrqs(NONE_TRIGGER, MSIX, HUGE_COUNT, 2),
    outcome: EINVAL,
  },
  {
    name: 'SET_IRQS with a count of 2^32 - 1',
    bytes: setIrqs(EVENTFD_TRIGGER, MSIX, 0, HUGE_COUNT),
    outcome: EINVAL,
  },
  {
    name: 'SET_IRQS with two fds for one vector',
    bytes: setIrqs(EVENTFD_TRIGGER, MSIX, 0, 1),
    fds: (make) => [make.eventfd(), make.eventfd()],
    outcome: EINVAL,
  },
  {
    name: 'SET_IRQS with a memfd for an eventfd',
    bytes: setIrqs(EVENTFD_TRIGGER, MSIX, 0, 1),
    fds: (make) => [make.memory(4096)],
    outcome: EINVAL,
  },
  {
    name: 'SET_IRQS with bools that are missing',
    bytes: setIrqs(BOOL_TRIGGER, MSIX, 0, 8),
    outcome: EINVAL,
  },
];

/** Everything, in the order of the tests. */
export const VFIO_USER_INPUTS: readonly VfioUserInput[] = [
  ...beforeVersion.map((input) => ({ ...input, fresh: true })),
  ...headers,
  ...information,
  ...regions,
  ...dma,
  ...interrupts,
];
