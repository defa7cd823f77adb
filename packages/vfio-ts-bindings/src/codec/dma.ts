import {
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
  VFIO_USER_F_DMA_REGION_FILE_IO,
  VFIO_USER_F_DMA_REGION_MMAP,
  VFIO_USER_F_DMA_REGION_READ,
  VFIO_USER_F_DMA_REGION_WRITE,
} from '../constants.js';
import { VfioUserError } from '../errors.js';
import { checkU64Range, narrow, WireReader, WireWriter } from '../wire.js';
import { checkArgsz, checkFlags, checkLength, type Codec } from './codec.js';

/** VFIO_USER_DMA_MAP, request. */
export interface DmaMapRequest {
  /** VFIO_USER_F_DMA_REGION_*. */
  readonly flags: number;
  /** File offset of the region's first byte; meaningless without an fd. */
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

/** VFIO_USER_DMA_UNMAP, request and reply. The range may end at 2^64, hence bigint. */
export interface DmaUnmapPayload {
  readonly argsz: number;
  readonly flags: number;
  readonly address: bigint;
  readonly size: bigint;
}

/** VFIO_USER_DMA_READ request, and what DMA_WRITE's reply should be. */
export interface DmaAccess {
  readonly address: number;
  readonly count: number;
}

/** VFIO_USER_DMA_WRITE request, and DMA_READ's reply. */
export interface DmaData extends DmaAccess {
  /** `count` bytes. */
  readonly data: Uint8Array;
}

const MAP_SIZE = 32;
const UNMAP_SIZE = 24;
const ACCESS_SIZE = 16;
const MAP_FLAGS =
  VFIO_USER_F_DMA_REGION_READ |
  VFIO_USER_F_DMA_REGION_WRITE |
  VFIO_USER_F_DMA_REGION_MMAP |
  VFIO_USER_F_DMA_REGION_FILE_IO;

export const dmaMapCodec: Codec<DmaMapRequest> = {
  decode(payload) {
    checkLength(payload, MAP_SIZE, 'DMA map');
    const reader = new WireReader(payload, MAP_SIZE, 'DMA map');
    checkArgsz(reader.u32(), MAP_SIZE);
    const flags = reader.u32();
    checkFlags(flags, MAP_FLAGS, 'DMA map flags');
    const offset = reader.u64();
    const address = reader.u64();
    const size = reader.u64();
    if (size === 0n) throw new VfioUserError('EINVAL', 'DMA map of 0 bytes');
    checkU64Range(address, size, 'DMA map');
    checkU64Range(offset, size, 'DMA map file range');
    narrow(address + size, 'end of DMA map');
    narrow(offset + size, 'end of DMA map file range');
    return { flags, offset: Number(offset), address: Number(address), size: Number(size) };
  },
  encode({ flags, offset, address, size }) {
    const writer = new WireWriter(MAP_SIZE).u32(MAP_SIZE).u32(flags);
    return writer.u64(offset).u64(address).u64(size).bytes;
  },
};

export const dmaUnmapCodec: Codec<DmaUnmapPayload> = {
  decode(payload) {
    const reader = new WireReader(payload, UNMAP_SIZE, 'DMA unmap');
    const argsz = reader.u32();
    checkArgsz(argsz, UNMAP_SIZE);
    const flags = reader.u32();
    checkFlags(
      flags,
      VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
      'DMA unmap flags',
    );
    // Only a dirty bitmap request is followed by more.
    if ((flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) === 0) {
      checkLength(payload, UNMAP_SIZE, 'DMA unmap');
    }
    const address = reader.u64();
    const size = reader.u64();
    checkU64Range(address, size, 'DMA unmap');
    return { argsz, flags, address, size };
  },
  encode({ argsz, flags, address, size }) {
    return new WireWriter(UNMAP_SIZE).u32(argsz).u32(flags).u64(address).u64(size).bytes;
  },
};

function readAccess(reader: WireReader): DmaAccess {
  const address = reader.u64();
  const count = reader.u64();
  checkU64Range(address, count, 'DMA access');
  narrow(address + count, 'end of DMA access');
  return { address: Number(address), count: Number(count) };
}

export const dmaAccessCodec: Codec<DmaAccess> = {
  decode(payload) {
    checkLength(payload, ACCESS_SIZE, 'DMA access');
    return readAccess(new WireReader(payload, ACCESS_SIZE, 'DMA access'));
  },
  encode({ address, count }) {
    return new WireWriter(ACCESS_SIZE).u64(address).u64(count).bytes;
  },
};

export const dmaDataCodec: Codec<DmaData> = {
  decode(payload) {
    const reader = new WireReader(payload, ACCESS_SIZE, 'DMA data');
    const access = readAccess(reader);
    checkLength(payload, ACCESS_SIZE + access.count, 'DMA data');
    return { ...access, data: reader.bytes(access.count) };
  },
  encode({ address, count, data }) {
    return new WireWriter(ACCESS_SIZE + data.length).u64(address).u64(count).put(data).bytes;
  },
};

/**
 * DMA_WRITE's reply: the specification's table has a count of 4 bytes, libvfio-user's structure one
 * of 8, and QEMU's first versions answered with the header alone. All three are accepted, the 8-byte
 * form is sent.
 */
export const dmaWriteReplyCodec: Codec<DmaAccess | undefined> = {
  decode(payload) {
    if (payload.length === 0) return undefined;
    if (payload.length !== 12) return dmaAccessCodec.decode(payload);
    const reader = new WireReader(payload, 12, 'DMA write reply');
    return { address: narrow(reader.u64(), 'DMA address'), count: reader.u32() };
  },
  encode: (value) => (value === undefined ? new Uint8Array(0) : dmaAccessCodec.encode(value)),
};
