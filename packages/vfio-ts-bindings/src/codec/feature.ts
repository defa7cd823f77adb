import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../constants.js';
import { VfioUserError } from '../errors.js';
import { WireReader, WireWriter } from '../wire.js';
import { checkArgsz, checkFlags, checkLength, type Codec } from './codec.js';

/** VFIO_USER_DEVICE_FEATURE, request and reply. */
export interface DeviceFeature {
  readonly argsz: number;
  /** Feature index and VFIO_DEVICE_FEATURE_GET, _SET, _PROBE. */
  readonly flags: number;
  readonly data: Uint8Array;
}

/** VFIO_USER_MIG_DATA_READ, request. */
export interface MigDataReadRequest {
  readonly argsz: number;
  readonly size: number;
}

/** VFIO_USER_MIG_DATA_READ reply, VFIO_USER_MIG_DATA_WRITE request. */
export interface MigData {
  readonly argsz: number;
  /** As many bytes as the wire's `size` says. */
  readonly data: Uint8Array;
}

const FIXED = 8;
const METHODS = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;

export const deviceFeatureCodec: Codec<DeviceFeature> = {
  decode(payload) {
    const reader = new WireReader(payload, FIXED, 'device feature');
    const argsz = reader.u32();
    checkArgsz(argsz, FIXED);
    const flags = reader.u32();
    checkFlags(flags, VFIO_DEVICE_FEATURE_MASK | METHODS | VFIO_DEVICE_FEATURE_PROBE, 'feature');
    const probe = (flags & VFIO_DEVICE_FEATURE_PROBE) !== 0;
    if (!probe && ((flags & METHODS) === METHODS || (flags & METHODS) === 0)) {
      throw new VfioUserError('EINVAL', 'device feature needs one of GET and SET');
    }
    return { argsz, flags, data: reader.bytes(reader.remaining) };
  },
  encode: ({ argsz, flags, data }) =>
    new WireWriter(FIXED + data.length).u32(argsz).u32(flags).put(data).bytes,
};

export const migDataReadCodec: Codec<MigDataReadRequest> = {
  decode(payload) {
    checkLength(payload, FIXED, 'migration data request');
    const reader = new WireReader(payload, FIXED, 'migration data request');
    const argsz = reader.u32();
    checkArgsz(argsz, FIXED);
    return { argsz, size: reader.u32() };
  },
  encode: ({ argsz, size }) => new WireWriter(FIXED).u32(argsz).u32(size).bytes,
};

export const migDataCodec: Codec<MigData> = {
  decode(payload) {
    const reader = new WireReader(payload, FIXED, 'migration data');
    const argsz = reader.u32();
    checkArgsz(argsz, FIXED);
    const size = reader.u32();
    checkLength(payload, FIXED + size, 'migration data');
    return { argsz, data: reader.bytes(size) };
  },
  encode: ({ argsz, data }) =>
    new WireWriter(FIXED + data.length).u32(argsz).u32(data.length).put(data).bytes,
};
