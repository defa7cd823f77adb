/**
 * Payloads written down by hand from the specification's layouts, in both byte orders: spaces
 * separate fields. Values are what a decoder must make of them.
 */
export interface Vector {
  readonly le: string;
  readonly be: string;
  readonly value: unknown;
  /** The text form. */
  readonly text: string;
}

/** The same bytes in both orders. */
function same(bytes: string, value: unknown, text: string): Vector {
  return { le: bytes, be: bytes, value, text };
}

const none = same('', undefined, '');

/** A u64 with the given bytes in little-endian. */
const features: Vector = {
  le: '0080005009000000',
  be: '0000000950008000',
  value: 0x9_5000_8000n,
  text: '0x950008000',
};
const protocolFeatures: Vector = {
  le: '0900010000000000',
  be: '0000000000010009',
  value: 0x1_0009n,
  text: '0x10009',
};
const zero: Vector = { le: '0000000000000000', be: '0000000000000000', value: 0n, text: '0x0' };

const regionLe = '0000000001000000 0000000800000000 0000607fff7f0000 0010000000000000';
const regionBe = '0000000100000000 0000000008000000 00007fff7f600000 0000000000001000';
const region = {
  guestAddress: 0x1_0000_0000n,
  size: 0x800_0000n,
  userAddress: 0x7fff_7f60_0000n,
  mmapOffset: 0x1000n,
};
const regionText =
  'guestAddress=0x100000000 size=0x8000000 userAddress=0x7fff7f600000 mmapOffset=0x1000';
const single: Vector = {
  le: `0000000000000000 ${regionLe}`,
  be: `0000000000000000 ${regionBe}`,
  value: region,
  text: regionText,
};

const state = (index: number, num: number, le: string, be: string): Vector => ({
  le,
  be,
  value: { index, num },
  text: `index=${index} num=${num}`,
});
const iotlb: Vector = {
  le: '0010000000000000 0020000000000000 00007f2a00000000 03 02 000000000000',
  be: '0000000000001000 0000000000002000 000000002a7f0000 03 02 000000000000',
  value: { iova: 0x1000n, size: 0x2000n, userAddress: 0x2a7f_0000n, permissions: 3, type: 2 },
  text: 'iova=0x1000 size=0x2000 userAddress=0x2a7f0000 permissions=3 type=2',
};
const config: Vector = {
  le: '04000000 06000000 00000000 525400123456',
  be: '00000004 00000006 00000000 525400123456',
  value: { offset: 4, flags: 0, data: Buffer.from('525400123456', 'hex') },
  text: 'offset=4 size=6 flags=0x0',
};
const inflight: Vector = {
  le: '0050000000000000 0010000000000000 0200 0001 00000000',
  be: '0000000000005000 0000000000001000 0002 0100 00000000',
  value: { mmapSize: 0x5000n, mmapOffset: 0x1000n, numQueues: 2, queueSize: 256 },
  text: 'mmapSize=0x5000 mmapOffset=0x1000 numQueues=2 queueSize=256',
};
const uuid = same(
  '00112233445566778899aabbccddeeff',
  Buffer.from('00112233445566778899aabbccddeeff', 'hex'),
  '00112233445566778899aabbccddeeff',
);
const crypto = same(
  '0102030405060708090a',
  Buffer.from('0102030405060708090a', 'hex'),
  '0102030405060708090a',
);
const shmemMap: Vector = {
  le: '01 00000000000000 0010000000000000 0020000000000000 0030000000000000 0100000000000000',
  be: '01 00000000000000 0000000000001000 0000000000002000 0000000000003000 0000000000000001',
  value: { shmid: 1, fdOffset: 0x1000n, shmOffset: 0x2000n, length: 0x3000n, flags: 1n },
  text: 'shmid=1 fdOffset=0x1000 shmOffset=0x2000 length=0x3000 flags=0x1',
};

/** Requests of the front-end, by name. */
export const frontendRequests: Readonly<Record<string, readonly Vector[]>> = {
  GET_FEATURES: [none],
  SET_FEATURES: [features],
  SET_OWNER: [none],
  RESET_OWNER: [none],
  SET_MEM_TABLE: [
    {
      le: `01000000 00000000 ${regionLe}`,
      be: `00000001 00000000 ${regionBe}`,
      value: [region],
      text: `[${regionText}]`,
    },
    {
      le: `02000000 00000000 ${regionLe} 0000000000000000 0000a00000000000 0000000055550000 0000000000000000`,
      be: `00000002 00000000 ${regionBe} 0000000000000000 0000000000a00000 0000555500000000 0000000000000000`,
      value: [
        region,
        { guestAddress: 0n, size: 0xa0_0000n, userAddress: 0x5555_0000_0000n, mmapOffset: 0n },
      ],
      text: `[${regionText}] [guestAddress=0x0 size=0xa00000 userAddress=0x555500000000 mmapOffset=0x0]`,
    },
  ],
  SET_LOG_BASE: [
    {
      le: '0000010000000000 0010000000000000',
      be: '0000000000010000 0000000000001000',
      value: { mmapSize: 0x1_0000n, mmapOffset: 0x1000n },
      text: 'mmapSize=0x10000 mmapOffset=0x1000',
    },
    {
      le: '0000007f00000000',
      be: '000000007f000000',
      value: { base: 0x7f00_0000n },
      text: 'base=0x7f000000',
    },
  ],
  SET_LOG_FD: [none],
  SET_VRING_NUM: [state(1, 256, '01000000 00010000', '00000001 00000100')],
  SET_VRING_ADDR: [
    {
      le: '02000000 01000000 00a0150801000000 00c0150801000000 00b0150801000000 0000000001000000',
      be: '00000002 00000001 000000010815a000 000000010815c000 000000010815b000 0000000100000000',
      value: {
        index: 2,
        flags: 1,
        descriptor: 0x1_0815_a000n,
        used: 0x1_0815_c000n,
        available: 0x1_0815_b000n,
        log: 0x1_0000_0000n,
      },
      text: 'index=2 flags=0x1 descriptor=0x10815a000 used=0x10815c000 available=0x10815b000 log=0x100000000',
    },
  ],
  SET_VRING_BASE: [state(3, 0x8005, '03000000 05800000', '00000003 00008005')],
  GET_VRING_BASE: [
    state(1, 0, '01000000 00000000', '00000001 00000000'),
    // DPDK 22.11's virtio-user leaves what it has in the reserved field.
    state(0, 0x5606_0000, '00000000 00000656', '00000000 56060000'),
  ],
  SET_VRING_KICK: [
    {
      le: '0300000000000000',
      be: '0000000000000003',
      value: { index: 3, noFd: false },
      text: 'index=3',
    },
    {
      le: 'ff01000000000000',
      be: '00000000000001ff',
      value: { index: 255, noFd: true },
      text: 'index=255 no-fd',
    },
  ],
  SET_VRING_CALL: [
    {
      le: '0001000000000000',
      be: '0000000000000100',
      value: { index: 0, noFd: true },
      text: 'index=0 no-fd',
    },
  ],
  SET_VRING_ERR: [
    {
      le: '0700000000000000',
      be: '0000000000000007',
      value: { index: 7, noFd: false },
      text: 'index=7',
    },
  ],
  GET_PROTOCOL_FEATURES: [none],
  SET_PROTOCOL_FEATURES: [protocolFeatures],
  GET_QUEUE_NUM: [none],
  SET_VRING_ENABLE: [state(4, 1, '04000000 01000000', '00000004 00000001')],
  SEND_RARP: [same('5254001234560000', Buffer.from('525400123456', 'hex'), '52:54:00:12:34:56')],
  NET_SET_MTU: [{ le: 'dc05000000000000', be: '00000000000005dc', value: 1500n, text: '0x5dc' }],
  SET_BACKEND_REQ_FD: [none],
  IOTLB_MSG: [iotlb],
  SET_VRING_ENDIAN: [state(0, 0, '00000000 00000000', '00000000 00000000')],
  GET_CONFIG: [config],
  SET_CONFIG: [
    {
      le: '08000000 02000000 01000000 dc05',
      be: '00000008 00000002 00000001 dc05',
      value: { offset: 8, flags: 1, data: Buffer.from('dc05', 'hex') },
      text: 'offset=8 size=2 flags=0x1',
    },
  ],
  CREATE_CRYPTO_SESSION: [crypto],
  CLOSE_CRYPTO_SESSION: [
    { le: '2a00000000000000', be: '000000000000002a', value: 42n, text: '0x2a' },
  ],
  POSTCOPY_ADVISE: [none],
  POSTCOPY_LISTEN: [none],
  POSTCOPY_END: [none],
  GET_INFLIGHT_FD: [inflight],
  SET_INFLIGHT_FD: [inflight],
  GPU_SET_SOCKET: [none],
  RESET_DEVICE: [none],
  VRING_KICK: [state(5, 0, '05000000 00000000', '00000005 00000000')],
  GET_MAX_MEM_SLOTS: [none],
  ADD_MEM_REG: [single],
  REM_MEM_REG: [single],
  SET_STATUS: [{ le: '0f00000000000000', be: '000000000000000f', value: 15n, text: '0xf' }],
  GET_STATUS: [none],
  GET_SHARED_OBJECT: [uuid],
  SET_DEVICE_STATE_FD: [
    {
      le: '01000000 00000000',
      be: '00000001 00000000',
      value: { direction: 1, phase: 0 },
      text: 'direction=1 phase=0',
    },
  ],
  CHECK_DEVICE_STATE: [none],
  GET_SHMEM_CONFIG: [none],
};

/** Replies of messages that have one of their own, by name. */
export const frontendReplies: Readonly<Record<string, readonly Vector[]>> = {
  GET_FEATURES: [features],
  SET_LOG_BASE: [zero],
  GET_VRING_BASE: [state(1, 0x8000_0007, '01000000 07000080', '00000001 80000007')],
  GET_PROTOCOL_FEATURES: [protocolFeatures],
  GET_QUEUE_NUM: [{ le: '8000000000000000', be: '0000000000000080', value: 128n, text: '0x80' }],
  IOTLB_MSG: [zero],
  // "uses zero length of payload to indicate an error"
  GET_CONFIG: [config, none],
  CREATE_CRYPTO_SESSION: [crypto],
  POSTCOPY_ADVISE: [none],
  POSTCOPY_END: [zero],
  GET_INFLIGHT_FD: [inflight],
  GET_MAX_MEM_SLOTS: [{ le: '2000000000000000', be: '0000000000000020', value: 32n, text: '0x20' }],
  GET_STATUS: [{ le: '0b00000000000000', be: '000000000000000b', value: 11n, text: '0xb' }],
  GET_SHARED_OBJECT: [uuid, none],
  SET_DEVICE_STATE_FD: [
    { le: '0001000000000000', be: '0000000000000100', value: 256n, text: '0x100' },
  ],
  CHECK_DEVICE_STATE: [zero],
  GET_SHMEM_CONFIG: [
    {
      le: '01000000 00000000 0000004000000000 0000000000000000',
      be: '00000001 00000000 0000000040000000 0000000000000000',
      value: { regions: 1, memorySizes: [0x4000_0000n, 0n] },
      text: 'regions=1 sizes=[0x40000000]',
    },
  ],
};

/** Requests of the back-end, by name. */
export const backendRequests: Readonly<Record<string, readonly Vector[]>> = {
  IOTLB_MSG: [iotlb],
  CONFIG_CHANGE_MSG: [none],
  VRING_HOST_NOTIFIER_MSG: [
    {
      le: '0101000000000000 0010000000000000 0040000000000000',
      be: '0000000000000101 0000000000001000 0000000000004000',
      value: { vring: 0x101n, size: 0x1000n, offset: 0x4000n },
      text: 'vring=0x101 size=0x1000 offset=0x4000',
    },
  ],
  VRING_CALL: [state(2, 0, '02000000 00000000', '00000002 00000000')],
  VRING_ERR: [state(3, 0, '03000000 00000000', '00000003 00000000')],
  SHARED_OBJECT_ADD: [uuid],
  SHARED_OBJECT_REMOVE: [uuid],
  SHARED_OBJECT_LOOKUP: [uuid],
  SHMEM_MAP: [shmemMap],
  SHMEM_UNMAP: [shmemMap],
};

/** Bytes of a vector's hexadecimal text. */
export function bytesOf(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}
