import { WireReader, WireWriter } from '../wire.js';
import { checkArgsz, checkZero, type Codec } from './codec.js';

/** VFIO_USER_DEVICE_GET_INFO, request. */
export interface DeviceInfoRequest {
  readonly argsz: number;
}

/** VFIO_USER_DEVICE_GET_INFO, reply. */
export interface DeviceInfo {
  /** VFIO_DEVICE_FLAGS_*. */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}

export const DEVICE_INFO_SIZE = 16;

export const deviceInfoRequestCodec: Codec<DeviceInfoRequest> = {
  decode(payload) {
    const reader = new WireReader(payload, DEVICE_INFO_SIZE, 'device info');
    const argsz = reader.u32();
    checkArgsz(argsz, DEVICE_INFO_SIZE);
    checkZero(reader.u32(), 'flags');
    checkZero(reader.u32(), 'num_regions');
    checkZero(reader.u32(), 'num_irqs');
    return { argsz };
  },
  encode: ({ argsz }) => new WireWriter(DEVICE_INFO_SIZE).u32(argsz).bytes,
};

export const deviceInfoCodec: Codec<DeviceInfo> = {
  decode(payload) {
    const reader = new WireReader(payload, DEVICE_INFO_SIZE, 'device info');
    checkArgsz(reader.u32(), DEVICE_INFO_SIZE);
    return { flags: reader.u32(), numRegions: reader.u32(), numIrqs: reader.u32() };
  },
  encode({ flags, numRegions, numIrqs }) {
    const writer = new WireWriter(DEVICE_INFO_SIZE).u32(DEVICE_INFO_SIZE).u32(flags);
    return writer.u32(numRegions).u32(numIrqs).bytes;
  },
};
