import { VfioUserError } from '../errors.js';
import { checkU64Range, narrow, WireReader, WireWriter } from '../wire.js';
import { checkLength, type Codec } from './codec.js';

/** VFIO_USER_REGION_READ request, VFIO_USER_REGION_WRITE reply. */
export interface RegionAccess {
  readonly offset: number;
  readonly region: number;
  readonly count: number;
}

/** VFIO_USER_REGION_WRITE request, VFIO_USER_REGION_READ reply. */
export interface RegionData extends RegionAccess {
  /** `count` bytes. */
  readonly data: Uint8Array;
}

/** VFIO_USER_REGION_WRITE_MULTI, request: writes of 1 to 8 bytes, to be done in order. */
export interface WriteMultiRequest {
  readonly writes: readonly RegionData[];
}

/** VFIO_USER_REGION_WRITE_MULTI, reply. */
export interface WriteMultiReply {
  /** Number of writes that were done. */
  readonly count: number;
}

const ACCESS_SIZE = 16;
const MULTI_HEADER_SIZE = 8;
const MULTI_ENTRY_SIZE = 24;
const MULTI_DATA_SIZE = 8;

function readAccess(reader: WireReader): RegionAccess {
  const offset = reader.u64();
  const region = reader.u32();
  const count = reader.u32();
  checkU64Range(offset, BigInt(count), 'region access');
  return { offset: narrow(offset, 'region offset'), region, count };
}

export const regionAccessCodec: Codec<RegionAccess> = {
  decode(payload) {
    checkLength(payload, ACCESS_SIZE, 'region access');
    return readAccess(new WireReader(payload, ACCESS_SIZE, 'region access'));
  },
  encode({ offset, region, count }) {
    return new WireWriter(ACCESS_SIZE).u64(offset).u32(region).u32(count).bytes;
  },
};

export const regionDataCodec: Codec<RegionData> = {
  decode(payload) {
    const reader = new WireReader(payload, ACCESS_SIZE, 'region data');
    const access = readAccess(reader);
    checkLength(payload, ACCESS_SIZE + access.count, 'region data');
    return { ...access, data: reader.bytes(access.count) };
  },
  encode({ offset, region, count, data }) {
    const writer = new WireWriter(ACCESS_SIZE + data.length);
    return writer.u64(offset).u32(region).u32(count).put(data).bytes;
  },
};

export const writeMultiCodec: Codec<WriteMultiRequest> = {
  /** QEMU's message has the size of a full array of 200 whatever wr_cnt says: a rest is ignored. */
  decode(payload) {
    const reader = new WireReader(payload, MULTI_HEADER_SIZE, 'multiple write');
    const count = reader.u64();
    if (count * BigInt(MULTI_ENTRY_SIZE) > BigInt(reader.remaining)) {
      throw new VfioUserError('EINVAL', `${count} writes in ${reader.remaining} bytes`);
    }
    return { writes: Array.from({ length: Number(count) }, () => readMultiEntry(reader)) };
  },
  encode({ writes }) {
    const writer = new WireWriter(MULTI_HEADER_SIZE + writes.length * MULTI_ENTRY_SIZE);
    writer.u64(writes.length);
    for (const { offset, region, count, data } of writes) {
      const padded = new Uint8Array(MULTI_DATA_SIZE);
      padded.set(data);
      writer.u64(offset).u32(region).u32(count).put(padded);
    }
    return writer.bytes;
  },
};

function readMultiEntry(reader: WireReader): RegionData {
  const access = readAccess(reader);
  const data = reader.bytes(MULTI_DATA_SIZE);
  if (access.count === 0 || access.count > MULTI_DATA_SIZE) {
    throw new VfioUserError('EINVAL', `multiple write entry of ${access.count} bytes`);
  }
  return { ...access, data: data.subarray(0, access.count) };
}

export const writeMultiReplyCodec: Codec<WriteMultiReply> = {
  decode(payload) {
    checkLength(payload, MULTI_HEADER_SIZE, 'multiple write reply');
    const reader = new WireReader(payload, MULTI_HEADER_SIZE, 'multiple write reply');
    return { count: narrow(reader.u64(), 'write count') };
  },
  encode: ({ count }) => new WireWriter(MULTI_HEADER_SIZE).u64(count).bytes,
};
