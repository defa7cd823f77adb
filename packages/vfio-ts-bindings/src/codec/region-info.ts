import { VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS } from '../constants.js';
import { VfioUserError } from '../errors.js';
import { narrow, WireReader, WireWriter } from '../wire.js';
import { checkArgsz, checkZero, type Codec } from './codec.js';

/** VFIO_USER_DEVICE_GET_REGION_INFO, request. */
export interface RegionInfoRequest {
  /** Most bytes of payload that the client wants in the reply. */
  readonly argsz: number;
  readonly index: number;
}

export interface SparseArea {
  /** Byte offset in the region; added to {@link RegionInfoReply.offset} for mmap. */
  readonly offset: number;
  readonly size: number;
}

/** VFIO_USER_DEVICE_GET_REGION_INFO, reply. */
export interface RegionInfoReply {
  /** Payload bytes of the full reply; more than came means: ask again with this argsz. */
  readonly argsz: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  readonly index: number;
  readonly size: number;
  /** File offset of the region's first byte; two's complement on the wire, so may be negative. */
  readonly offset: number;
  /** The sparse mmap capability, where the reply is complete and has one. */
  readonly areas: readonly SparseArea[] | undefined;
}

/** Fixed part, struct vfio_region_info. */
export const REGION_INFO_SIZE = 32;
const CAP_HEADER_SIZE = 8;
const SPARSE_FIXED = 8;
const AREA_SIZE = 16;

export const regionInfoRequestCodec: Codec<RegionInfoRequest> = {
  // SPDK's client sends argsz bytes, more than the structure: the rest is ignored.
  decode(payload) {
    const reader = new WireReader(payload, REGION_INFO_SIZE, 'region info');
    const argsz = reader.u32();
    checkArgsz(argsz, REGION_INFO_SIZE);
    checkZero(reader.u32(), 'flags');
    const index = reader.u32();
    checkZero(reader.u32(), 'cap_offset');
    checkZero(reader.u64(), 'size');
    checkZero(reader.u64(), 'offset');
    return { argsz, index };
  },
  encode: ({ argsz, index }) => new WireWriter(REGION_INFO_SIZE).u32(argsz).u32(0).u32(index).bytes,
};

/** Payload bytes of a full reply. */
export function regionInfoSize(areas: readonly SparseArea[] | undefined): number {
  return areas === undefined
    ? REGION_INFO_SIZE
    : REGION_INFO_SIZE + CAP_HEADER_SIZE + SPARSE_FIXED + areas.length * AREA_SIZE;
}

export const regionInfoReplyCodec: Codec<RegionInfoReply> = {
  decode(payload) {
    const reader = new WireReader(payload, REGION_INFO_SIZE, 'region info');
    const argsz = reader.u32();
    checkArgsz(argsz, REGION_INFO_SIZE);
    const flags = reader.u32();
    const index = reader.u32();
    const capOffset = reader.u32();
    const size = narrow(reader.u64(), 'region size');
    const offset = reader.i64();
    narrow(offset < 0n ? -offset : offset, 'region offset');
    const complete = payload.length >= argsz && (flags & VFIO_REGION_INFO_FLAG_CAPS) !== 0;
    const areas = complete ? findAreas(payload, capOffset, size) : undefined;
    return { argsz, flags, index, size, offset: Number(offset), areas };
  },
  /** Always the full reply; the first 32 bytes of it are the short one (same argsz, cap_offset). */
  encode({ flags, index, size, offset, areas }) {
    const total = regionInfoSize(areas);
    const writer = new WireWriter(total).u32(total).u32(flags).u32(index);
    writer.u32(areas === undefined ? 0 : REGION_INFO_SIZE);
    writer.u64(size).u64(offset);
    if (areas === undefined) return writer.bytes;
    // struct vfio_info_cap_header: id, version 1, next 0.
    writer.u16(VFIO_REGION_INFO_CAP_SPARSE_MMAP).u16(1).u32(0).u32(areas.length).u32(0);
    for (const area of areas) writer.u64(area.offset).u64(area.size);
    return writer.bytes;
  },
};

/** Walks the capability chain. Offsets must ascend, so that a loop ends. */
function findAreas(
  payload: Uint8Array,
  capOffset: number,
  size: number,
): readonly SparseArea[] | undefined {
  for (let at = capOffset, last = REGION_INFO_SIZE - 1; at !== 0;) {
    if (at <= last || at % 8 !== 0) {
      throw new VfioUserError('EINVAL', `capability at offset ${at} behind ${last}`);
    }
    const reader = new WireReader(payload.subarray(at), CAP_HEADER_SIZE, 'capability');
    const id = reader.u16();
    reader.u16();
    const next = reader.u32();
    if (id === VFIO_REGION_INFO_CAP_SPARSE_MMAP) return readAreas(reader, size);
    last = at;
    at = next;
  }
  return undefined;
}

function readAreas(reader: WireReader, regionSize: number): SparseArea[] {
  const count = reader.u32();
  reader.u32();
  if (count * AREA_SIZE > reader.remaining) {
    throw new VfioUserError('EINVAL', `${count} sparse areas in ${reader.remaining} bytes`);
  }
  return Array.from({ length: count }, () => {
    const offset = narrow(reader.u64(), 'area offset');
    const size = narrow(reader.u64(), 'area size');
    if (offset > regionSize || size > regionSize - offset) {
      throw new VfioUserError('EINVAL', `sparse area ${offset} + ${size} is beyond ${regionSize}`);
    }
    return { offset, size };
  });
}
