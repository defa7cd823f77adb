/** Bad messages, written down by hand, for a server that negotiated with QEMU's VERSION. */
import { bad, EEXIST, EINVAL, ENOSYS, ENOTSUP, ERANGE, type BadMessage } from './bad-message.js';
import { concat, hex } from './hex.js';
import { accesses, info, irqs } from './malformed-requests.js';

/** Headers: id 0x77, command, size, flags, error 0. */
const framing: readonly BadMessage[] = [
  bad('size 0', 'BAD_STREAM', '7700 0d00 00000000 00000000 00000000', 1),
  bad('size 15', 'BAD_STREAM', '7700 0d00 0f000000 00000000 00000000', 1),
  bad('size above the limit', 'BAD_STREAM', '7700 0a00 01101000 00000000 00000000', 2),
  bad('size 2^32 - 1', 'BAD_STREAM', '7700 0a00 ffffffff 00000000 00000000'),
  bad('message type 2', EINVAL, '7700 0d00 10000000 02000000 00000000', 1),
  bad('message type 15 without reply', 0, '7700 0d00 10000000 1f000000 00000000', 1),
  bad('error bit in a command', EINVAL, '7700 0d00 10000000 20000000 00000000'),
  bad('unknown header flag', EINVAL, '7700 0d00 10000000 40000000 00000000'),
  bad('high header flag', EINVAL, '7700 0d00 10000000 00000080 00000000'),
  bad('reply to nothing, with fds', 0, '7700 0b00 10000000 01000000 00000000', 3),
  bad('command 0', ENOSYS, '7700 0000 10000000 00000000 00000000', 1),
  bad('command 14', ENOSYS, '7700 0e00 10000000 00000000 00000000'),
  bad('command 19', ENOSYS, '7700 1300 10000000 00000000 00000000'),
  bad('command 65535', ENOSYS, '7700 ffff 10000000 00000000 00000000'),
  bad('unknown command without reply', 0, '7700 1300 10000000 10000000 00000000', 2),
  bad(
    'DMA_READ from the client',
    EINVAL,
    '7700 0b00 20000000 00000000 00000000 0000000000000000 0100000000000000',
  ),
  bad('region_remap from the client', EINVAL, '7700 0180 10000000 00000000 00000000', 1),
  bad('second VERSION', EINVAL, '7700 0100 14000000 00000000 00000000 00000000'),
  bad('VERSION without reply', 0, '7700 0100 14000000 10000000 00000000 00000000'),
  bad(
    '17 fds',
    EINVAL,
    '7700 0800 24000000 00000000 00000000 14000000 24000000 02000000 00000000 11000000',
    17,
  ),
];

const MAP = '7700 0200 30000000 00000000 00000000';
const UNMAP = '7700 0300 28000000 00000000 00000000';

const dma: readonly BadMessage[] = [
  bad('DMA_MAP without payload', EINVAL, '7700 0200 10000000 00000000 00000000', 1),
  bad('DMA_MAP cut short', EINVAL, `7700 0200 2f000000 00000000 00000000 ${'00'.repeat(31)}`, 1),
  bad('DMA_MAP too long', EINVAL, `7700 0200 31000000 00000000 00000000 ${'00'.repeat(33)}`, 1),
  bad(
    'DMA_MAP with argsz 31',
    EINVAL,
    `${MAP} 1f000000 03000000 0000000000000000 0000000000000000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP with unknown flags',
    EINVAL,
    `${MAP} 20000000 13000000 0000000000000000 0000000000000000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP without access rights',
    EINVAL,
    `${MAP} 20000000 00000000 0000000000000000 0000000000000000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP of 0 bytes',
    EINVAL,
    `${MAP} 20000000 03000000 0000000000000000 0000000000000000 0000000000000000`,
    1,
  ),
  bad(
    'DMA_MAP with an unaligned address',
    EINVAL,
    `${MAP} 20000000 03000000 0000000000000000 0100000000000000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP with an unaligned size',
    EINVAL,
    `${MAP} 20000000 03000000 0000000000000000 0000000000000000 0110000000000000`,
    1,
  ),
  bad(
    'DMA_MAP with an unaligned file offset',
    EINVAL,
    `${MAP} 20000000 03000000 0002000000000000 0000000000000000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP over 2^64',
    EINVAL,
    `${MAP} 20000000 03000000 0000000000000000 00f0ffffffffffff 0020000000000000`,
    1,
  ),
  bad(
    'DMA_MAP with a file range over 2^64',
    EINVAL,
    `${MAP} 20000000 03000000 00f0ffffffffffff 0000000000000000 0020000000000000`,
    1,
  ),
  bad(
    'DMA_MAP at 2^53',
    ERANGE,
    `${MAP} 20000000 03000000 0000000000000000 0000000000002000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP of 2^53 bytes',
    ERANGE,
    `${MAP} 20000000 03000000 0000000000000000 0000000000000000 0000000000002000`,
    1,
  ),
  bad(
    'DMA_MAP at file offset 2^53',
    ERANGE,
    `${MAP} 20000000 03000000 0000000000002000 0000000000000000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP with two fds',
    EINVAL,
    `${MAP} 20000000 03000000 0000000000000000 0000000000000000 0010000000000000`,
    2,
  ),
  bad(
    'DMA_MAP mappable without fd',
    EINVAL,
    `${MAP} 20000000 07000000 0000000000000000 0000000000000000 0010000000000000`,
  ),
  bad(
    'DMA_MAP for file I/O alone',
    ENOTSUP,
    `${MAP} 20000000 0b000000 0000000000000000 0000000000000000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP over a mapping',
    EEXIST,
    `${MAP} 20000000 03000000 0000000000000000 0010001000000000 0010000000000000`,
    1,
  ),
  bad(
    'DMA_MAP around a mapping',
    EEXIST,
    `${MAP} 20000000 03000000 0000000000000000 0000000000000000 0000000020000000`,
    1,
  ),
  bad('DMA_UNMAP cut short', EINVAL, `7700 0300 27000000 00000000 00000000 ${'00'.repeat(23)}`),
  bad(
    'DMA_UNMAP with an fd',
    EINVAL,
    `${UNMAP} 18000000 00000000 0000001000000000 0020000000000000`,
    1,
  ),
  bad(
    'DMA_UNMAP with argsz 0',
    EINVAL,
    `${UNMAP} 00000000 00000000 0000001000000000 0020000000000000`,
  ),
  bad(
    'DMA_UNMAP with unknown flags',
    EINVAL,
    `${UNMAP} 18000000 04000000 0000001000000000 0020000000000000`,
  ),
  bad(
    'DMA_UNMAP with a dirty bitmap',
    ENOTSUP,
    `${UNMAP} 18000000 01000000 0000001000000000 0020000000000000`,
  ),
  bad(
    'DMA_UNMAP of all with an address',
    EINVAL,
    `${UNMAP} 18000000 02000000 0000001000000000 0000000000000000`,
  ),
  bad(
    'DMA_UNMAP of 0 bytes',
    EINVAL,
    `${UNMAP} 18000000 00000000 0000001000000000 0000000000000000`,
  ),
  bad(
    'DMA_UNMAP over 2^64',
    EINVAL,
    `${UNMAP} 18000000 00000000 00f0ffffffffffff 0020000000000000`,
  ),
  bad(
    'DMA_UNMAP that cuts the front',
    EINVAL,
    `${UNMAP} 18000000 00000000 0000001000000000 0010000000000000`,
  ),
  bad(
    'DMA_UNMAP that cuts the end',
    EINVAL,
    `${UNMAP} 18000000 00000000 0010001000000000 0010000000000000`,
  ),
];

export const malformed: readonly BadMessage[] = [...framing, ...dma, ...info, ...irqs, ...accesses];

/** Maps [0x10000000, 0x10002000), which the overlap and unmap cases refer to. */
export const SETUP_MAP = concat(
  hex('0100 0200 30000000 00000000 00000000'),
  hex('20000000 03000000 0000000000000000 0000001000000000 0020000000000000'),
);
