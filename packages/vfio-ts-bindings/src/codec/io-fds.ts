import { VfioUserError } from '../errors.js';
import { narrow, WireReader, WireWriter } from '../wire.js';
import { checkArgsz, checkZero, type Codec } from './codec.js';

/** VFIO_USER_DEVICE_GET_REGION_IO_FDS, request. */
export interface IoFdsRequest {
  readonly argsz: number;
  readonly index: number;
}

/** One sub-region; ioeventfd and ioregionfd entries have the same layout. */
export interface IoFdEntry {
  readonly offset: number;
  /** 0 where the access size does not matter. */
  readonly size: number;
  /** Index in the fds of the message. */
  readonly fdIndex: number;
  /** VFIO_USER_IO_FD_TYPE_*. */
  readonly type: number;
  readonly flags: number;
  /** `datamatch` or `user_data`. */
  readonly value: bigint;
}

/** VFIO_USER_DEVICE_GET_REGION_IO_FDS, reply. */
export interface IoFdsReply {
  readonly argsz: number;
  readonly index: number;
  /** Entries of the full reply. */
  readonly count: number;
  /** Empty where the client's argsz was too small for all of them. */
  readonly entries: readonly IoFdEntry[];
}

/** Fixed part. */
export const IO_FDS_SIZE = 16;
const ENTRY_SIZE = 40;

export const ioFdsRequestCodec: Codec<IoFdsRequest> = {
  decode(payload) {
    const reader = new WireReader(payload, IO_FDS_SIZE, 'region I/O fds');
    const argsz = reader.u32();
    checkArgsz(argsz, IO_FDS_SIZE);
    checkZero(reader.u32(), 'flags');
    const index = reader.u32();
    checkZero(reader.u32(), 'count');
    return { argsz, index };
  },
  encode: ({ argsz, index }) => new WireWriter(IO_FDS_SIZE).u32(argsz).u32(0).u32(index).bytes,
};

export function ioFdsSize(entries: number): number {
  return IO_FDS_SIZE + entries * ENTRY_SIZE;
}

export const ioFdsReplyCodec: Codec<IoFdsReply> = {
  decode(payload) {
    const reader = new WireReader(payload, IO_FDS_SIZE, 'region I/O fds');
    const argsz = reader.u32();
    checkArgsz(argsz, IO_FDS_SIZE);
    checkZero(reader.u32(), 'flags');
    const index = reader.u32();
    const count = reader.u32();
    if (payload.length < argsz) return { argsz, index, count, entries: [] };
    if (count * ENTRY_SIZE > reader.remaining) {
      throw new VfioUserError('EINVAL', `${count} sub-regions in ${reader.remaining} bytes`);
    }
    return { argsz, index, count, entries: Array.from({ length: count }, () => entry(reader)) };
  },
  encode({ index, count, entries }) {
    const writer = new WireWriter(ioFdsSize(entries.length));
    writer.u32(ioFdsSize(count)).u32(0).u32(index).u32(count);
    for (const { offset, size, fdIndex, type, flags, value } of entries) {
      writer.u64(offset).u64(size).u32(fdIndex).u32(type).u32(flags).u32(0).u64(value);
    }
    return writer.bytes;
  },
};

function entry(reader: WireReader): IoFdEntry {
  const offset = narrow(reader.u64(), 'sub-region offset');
  const size = narrow(reader.u64(), 'sub-region size');
  const fdIndex = reader.u32();
  const type = reader.u32();
  const flags = reader.u32();
  reader.u32();
  return { offset, size, fdIndex, type, flags, value: reader.u64() };
}
