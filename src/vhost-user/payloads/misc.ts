import { badPayload, badSize, hex, type PayloadCodec } from '../codec.js';
import {
  VHOST_ACCESS_RO,
  VHOST_ACCESS_WO,
  VHOST_IOTLB_ACCESS_FAIL,
  VHOST_IOTLB_MISS,
} from '../constants.js';
import { opaque, u64 } from './simple.js';
import { Struct, structCodec, type StructValue } from './struct.js';

const logFields = { mmapSize: 'u64', mmapOffset: 'u64' } as const;
const logDescription = structCodec('log', logFields);
/** "Log description" with LOG_SHMFD; without it the address of the log, a bare u64. */
export type LogBase = StructValue<typeof logFields> | { readonly base: bigint };

export const logBase: PayloadCodec<LogBase> = {
  name: 'log',
  minSize: 8,
  maxSize: 16,
  decode: (bytes, order) =>
    bytes.length === 8 ? { base: u64.decode(bytes, order) } : logDescription.decode(bytes, order),
  encode: (value, order) =>
    'base' in value ? u64.encode(value.base, order) : logDescription.encode(value, order),
  describe: (value) =>
    'base' in value ? `base=${hex(value.base)}` : logDescription.describe(value),
};

/** The C structure ends in 6 bytes of padding, and peers send them. */
const iotlbFields = {
  iova: 'u64',
  size: 'u64',
  userAddress: 'u64',
  permissions: 'u8',
  type: 'u8',
  padding: 'pad6',
} as const;
/** "An IOTLB message", struct vhost_iotlb_msg. */
export type Iotlb = StructValue<typeof iotlbFields>;

export const iotlb = structCodec('IOTLB message', iotlbFields, ({ permissions, type }) => {
  // Types 5 and 6 (batch begin and end) are the kernel's, vhost-user has none.
  const valid = type >= VHOST_IOTLB_MISS && type <= VHOST_IOTLB_ACCESS_FAIL;
  if (permissions > (VHOST_ACCESS_RO | VHOST_ACCESS_WO) || !valid) {
    throw badPayload('IOTLB message', `permissions ${permissions}, type ${type} out of range`);
  }
});

const inflightFields = {
  mmapSize: 'u64',
  mmapOffset: 'u64',
  numQueues: 'u16',
  queueSize: 'u16',
} as const;
const inflightLayout = new Struct(inflightFields);
/** "Inflight description". */
export type Inflight = StructValue<typeof inflightFields>;
/** The C structure is padded to 24 bytes, packed implementations send 20. */
const INFLIGHT_PADDED = 24;

export const inflight: PayloadCodec<Inflight> = {
  name: 'inflight description',
  minSize: inflightLayout.size,
  maxSize: INFLIGHT_PADDED,
  decode(bytes, order) {
    if (bytes.length !== inflightLayout.size && bytes.length !== INFLIGHT_PADDED) {
      throw badSize('inflight description', bytes.length, '20 or 24');
    }
    return inflightLayout.read(bytes, 0, order);
  },
  encode(value, order) {
    const bytes = Buffer.alloc(INFLIGHT_PADDED);
    inflightLayout.write(bytes, 0, value, order);
    return bytes;
  },
  describe: (value) => inflightLayout.describe(value),
};

const deviceStateFields = { direction: 'u32', phase: 'u32' } as const;
/** "Device state transfer parameters": direction 0 save, 1 load; phase 0 stopped. */
export type DeviceState = StructValue<typeof deviceStateFields>;

export const deviceState = structCodec(
  'device state',
  deviceStateFields,
  ({ direction, phase }) => {
    if (direction > 1 || phase > 0) {
      throw badPayload('device state', `direction ${direction}, phase ${phase}`);
    }
  },
);

const shmemMapFields = {
  shmid: 'u8',
  padding: 'pad7',
  fdOffset: 'u64',
  shmOffset: 'u64',
  length: 'u64',
  flags: 'u64',
} as const;
/** QEMU's VhostUserMMap; flag bit 0 asks for a writable mapping. */
export type ShmemMap = StructValue<typeof shmemMapFields>;

export const shmemMap = structCodec('shared memory mapping', shmemMapFields, (value) => {
  const end = 1n << 64n;
  if (value.fdOffset + value.length > end || value.shmOffset + value.length > end) {
    throw badPayload('shared memory mapping', `length ${hex(value.length)} overflows`);
  }
  if (value.flags > 1n) {
    throw badPayload('shared memory mapping', `reserved flags ${hex(value.flags)}`);
  }
});

/** VhostUserShared: a UUID in its own, fixed byte order. */
export const sharedObject = opaque('shared object', 16, 16);

/**
 * SEND_RARP: "The first 6 bytes of the payload contain the mac address". Bytes in a u64's place,
 * so they are not swapped.
 */
export const macAddress: PayloadCodec<Buffer> = {
  name: 'mac address',
  minSize: 8,
  maxSize: 8,
  decode(bytes) {
    if (bytes.length !== 8) {
      throw badSize('mac address', bytes.length, '8');
    }
    return Buffer.from(bytes.subarray(0, 6));
  },
  encode(value) {
    const bytes = Buffer.alloc(8);
    bytes.set(value.subarray(0, 6));
    return bytes;
  },
  describe: (value) => value.toString('hex').replace(/(..)(?=.)/g, '$1:'),
};

/**
 * "Crypto session description": the specification leaves it open, and QEMU's structure (1,072
 * bytes) changed between versions, so it passes as it is.
 */
export const cryptoSession = opaque('crypto session', 8, 2048);
