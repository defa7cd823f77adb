/**
 * Messages written down by hand from the specification (QEMU docs/interop/vfio-user.rst): a session
 * as QEMU 11.1's vfio-user-pci leads it with the test device, and commands that it does not send.
 */
import { ascii, concat, hex } from './hex.js';

export interface Exchange {
  readonly name: string;
  readonly request: Uint8Array;
  /** Labels of the fds that come with it. */
  readonly fds?: readonly string[];
  /** Empty for a No_reply command. */
  readonly reply: Uint8Array;
  readonly replyFds?: readonly string[];
}

/** Header and payload in hexadecimal, fields apart. */
const m = (...lines: readonly string[]): Uint8Array => hex(lines.join(''));

export const qemuVersion: Exchange = {
  name: 'VERSION',
  request: concat(
    m('0000 0100 d6000000 00000000 00000000', '0000 0000'),
    ascii(
      '{"capabilities": {"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, ' +
        '"max_data_xfer_size": 1048576, "max_dma_maps": 65535, "max_msg_fds": 16, ' +
        '"pgsizes": 4096, "write_multiple": true}}\0',
    ),
  ),
  reply: concat(
    m('0000 0100 8f000000 01000000 00000000', '0000 0000'),
    ascii(
      '{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,' +
        '"max_dma_maps":65535,"pgsizes":4096,"write_multiple":true}}\0',
    ),
  ),
};

/** SET_IRQS of one MSI-X vector with its eventfd. */
function vector(number: number): Exchange {
  const id = `1${number}00`;
  return {
    name: `SET_IRQS MSI-X vector ${number}`,
    request: m(
      `${id} 0800 24000000 00000000 00000000`,
      `14000000 24000000 02000000 0${number}000000 01000000`,
    ),
    fds: [`vector${number}`],
    reply: m(`${id} 0800 10000000 01000000 00000000`),
  };
}

export const qemuSession: readonly Exchange[] = [
  qemuVersion,
  {
    name: 'DMA_MAP of 128 MiB RAM',
    request: m(
      '0100 0200 30000000 00000000 00000000',
      '20000000 03000000 0000000000000000 0000000000000000 0000000800000000',
    ),
    fds: ['ram'],
    reply: m('0100 0200 10000000 01000000 00000000'),
  },
  {
    name: 'DMA_MAP of a ROM without fd',
    request: m(
      '0200 0200 30000000 00000000 00000000',
      '20000000 01000000 0000000000000000 0000fcff00000000 0000040000000000',
    ),
    reply: m('0200 0200 10000000 01000000 00000000'),
  },
  {
    name: 'DEVICE_GET_INFO',
    request: m('0300 0400 20000000 00000000 00000000', '10000000 00000000 00000000 00000000'),
    reply: m('0300 0400 20000000 01000000 00000000', '10000000 03000000 09000000 05000000'),
  },
  {
    name: 'GET_REGION_INFO of BAR 2, argsz 32',
    request: m(
      '0400 0500 30000000 00000000 00000000',
      '20000000 00000000 02000000 00000000 0000000000000000 0000000000000000',
    ),
    reply: m(
      '0400 0500 30000000 01000000 00000000',
      '40000000 0f000000 02000000 20000000 0020000000000000 00f0ffffffffffff',
    ),
  },
  {
    name: 'GET_REGION_INFO of BAR 2, argsz 64',
    request: m(
      '0500 0500 30000000 00000000 00000000',
      '40000000 00000000 02000000 00000000 0000000000000000 0000000000000000',
    ),
    reply: m(
      '0500 0500 50000000 01000000 00000000',
      '40000000 0f000000 02000000 20000000 0020000000000000 00f0ffffffffffff',
      '0100 0100 00000000',
      '01000000 00000000 0010000000000000 0010000000000000',
    ),
    replyFds: ['bar2'],
  },
  {
    name: 'GET_REGION_INFO of config space',
    request: m(
      '0600 0500 30000000 00000000 00000000',
      '20000000 00000000 07000000 00000000 0000000000000000 0000000000000000',
    ),
    reply: m(
      '0600 0500 30000000 01000000 00000000',
      '20000000 03000000 07000000 00000000 0010000000000000 0000000000000000',
    ),
  },
  {
    name: 'GET_IRQ_INFO of ERR',
    request: m('0700 0700 20000000 00000000 00000000', '10000000 00000000 03000000 00000000'),
    reply: m('0700 0700 20000000 01000000 00000000', '10000000 01000000 03000000 01000000'),
  },
  {
    name: 'GET_IRQ_INFO of MSI-X',
    request: m('0800 0700 20000000 00000000 00000000', '10000000 00000000 02000000 00000000'),
    reply: m('0800 0700 20000000 01000000 00000000', '10000000 01000000 02000000 04000000'),
  },
  {
    name: 'REGION_READ of config space, 4096 bytes',
    request: m('0900 0900 20000000 00000000 00000000', '0000000000000000 07000000 00100000'),
    reply: concat(
      m('0900 0900 20100000 01000000 00000000', '0000000000000000 07000000 00100000'),
      hex('f41a5810'),
      new Uint8Array(4092),
    ),
  },
  {
    name: 'SET_IRQS INTx eventfd',
    request: m(
      '0a00 0800 24000000 00000000 00000000',
      '14000000 24000000 00000000 00000000 01000000',
    ),
    fds: ['intx'],
    reply: m('0a00 0800 10000000 01000000 00000000'),
  },
  {
    name: 'DEVICE_RESET',
    request: m('0b00 0d00 10000000 00000000 00000000'),
    reply: m('0b00 0d00 10000000 01000000 00000000'),
  },
  {
    name: 'SET_IRQS MSI-X, start 0 count 1 without fd',
    request: m(
      '0c00 0800 24000000 00000000 00000000',
      '14000000 24000000 02000000 00000000 01000000',
    ),
    reply: m('0c00 0800 10000000 01000000 00000000'),
  },
  vector(0),
  vector(1),
  vector(2),
  vector(3),
  {
    name: 'REGION_WRITE of 2 bytes to BAR 0',
    request: m('2000 0a00 22000000 00000000 00000000', '1400000000000000 00000000 02000000 aabb'),
    reply: m('2000 0a00 20000000 01000000 00000000', '1400000000000000 00000000 02000000'),
  },
  {
    name: 'REGION_WRITE without reply',
    request: m(
      '2100 0a00 24000000 10000000 00000000',
      '1000000000000000 00000000 04000000 01020304',
    ),
    reply: new Uint8Array(0),
  },
  {
    name: 'SET_IRQS unmask INTx (the EOI)',
    request: m(
      '2200 0800 24000000 00000000 00000000',
      '14000000 11000000 00000000 00000000 01000000',
    ),
    reply: m('2200 0800 10000000 01000000 00000000'),
  },
  {
    name: 'SET_IRQS disable MSI-X',
    request: m(
      '2300 0800 24000000 00000000 00000000',
      '14000000 21000000 02000000 00000000 00000000',
    ),
    reply: m('2300 0800 10000000 01000000 00000000'),
  },
  {
    name: 'DMA_UNMAP of the RAM',
    request: m(
      '2400 0300 28000000 00000000 00000000',
      '18000000 00000000 0000000000000000 0000000800000000',
    ),
    reply: m(
      '2400 0300 28000000 01000000 00000000',
      '18000000 00000000 0000000000000000 0000000800000000',
    ),
  },
  {
    name: 'DMA_UNMAP of everything',
    request: m(
      '2500 0300 28000000 00000000 00000000',
      '18000000 02000000 0000000000000000 0000000000000000',
    ),
    reply: m(
      '2500 0300 28000000 01000000 00000000',
      '18000000 02000000 0000000000000000 0000000000000000',
    ),
  },
];

/** What the device is told in the course of {@link qemuSession}, in order. */
export const qemuSessionCalls: readonly string[] = [
  'connected',
  'map 0 8000000 ram@0 rw',
  'map fffc0000 40000 - r',
  'irq 0 0 1',
  'reset',
  'irq 2 0 1',
  'irq 2 0 1',
  'irq 2 1 1',
  'irq 2 2 1',
  'irq 2 3 1',
  'write 0 20 aabb',
  'write 0 16 01020304',
  'irq 0 0 1',
  'irq 2 0 4',
  'unmap 0 8000000',
  'unmap all',
];

/** After {@link qemuVersion}, on the test device. */
export const furtherExchanges: readonly Exchange[] = [
  {
    name: 'REGION_WRITE_MULTI of two writes, with the rest of QEMU’s fixed array',
    request: concat(
      m('0100 0f00 68000000 00000000 00000000', '0200000000000000'),
      m('0000000000000000 00000000 01000000 11ffffffffffffff'),
      m('0800000000000000 00000000 04000000 22334455ffffffff'),
      new Uint8Array(32),
    ),
    reply: m('0100 0f00 18000000 01000000 00000000', '0200000000000000'),
  },
  {
    name: 'DEVICE_GET_REGION_IO_FDS of a region without any',
    request: m('0200 0600 20000000 00000000 00000000', '10000000 00000000 02000000 00000000'),
    reply: m('0200 0600 20000000 01000000 00000000', '10000000 00000000 02000000 00000000'),
  },
  {
    name: 'SET_IRQS trigger MSI-X by booleans',
    request: m(
      '0300 0800 27000000 00000000 00000000',
      '17000000 22000000 02000000 01000000 03000000 010001',
    ),
    reply: m('0300 0800 10000000 01000000 00000000'),
  },
  {
    name: 'DEVICE_FEATURE get migration: ENOTSUP',
    request: m('0400 1000 18000000 00000000 00000000', '10000000 01000100'),
    reply: m('0400 1000 10000000 21000000 5f000000'),
  },
  {
    name: 'MIG_DATA_READ: ENOTSUP',
    request: m('0500 1100 18000000 00000000 00000000', '00010000 f8000000'),
    reply: m('0500 1100 10000000 21000000 5f000000'),
  },
  {
    name: 'MIG_DATA_WRITE: ENOTSUP',
    request: m('0600 1200 1a000000 00000000 00000000', '0a000000 02000000 0102'),
    reply: m('0600 1200 10000000 21000000 5f000000'),
  },
  {
    name: 'GET_REGION_INFO with argsz bytes of payload, as SPDK sends it',
    request: concat(
      m('0700 0500 40000000 00000000 00000000'),
      m('30000000 00000000 04000000 00000000 0000000000000000 0000000000000000'),
      new Uint8Array(16),
    ),
    reply: m(
      '0700 0500 30000000 01000000 00000000',
      '20000000 07000000 04000000 00000000 0000010000000000 0000000000000000',
    ),
    replyFds: ['bar4'],
  },
];
