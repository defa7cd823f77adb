import {
  REGION_REMAP_OP_MAP,
  REGION_REMAP_OP_UNMAP,
  REGION_REMAP_PROT_READ,
  REGION_REMAP_PROT_WRITE,
} from '../constants.js';
import { VfioUserError } from '../errors.js';
import { narrow, WireReader, WireWriter } from '../wire.js';
import { checkFlags, checkLength, checkZero, type Codec } from './codec.js';

/** One operation as it is on the wire; `fdIndex` counts the fds of the message. */
export interface RemapEntry {
  /** REGION_REMAP_OP_*. */
  readonly op: number;
  /** REGION_REMAP_PROT_*; 0 for an unmap. */
  readonly prot: number;
  readonly offset: number;
  readonly length: number;
  readonly fileOffset: number;
  readonly fdIndex: number;
}

/** The region_remap command (docs/region-remap.md), request. */
export interface RemapPayload {
  readonly region: number;
  readonly entries: readonly RemapEntry[];
}

const FIXED = 16;
const ENTRY_SIZE = 40;

/** Payload bytes of a command with so many operations. */
export function remapSize(entries: number): number {
  return FIXED + entries * ENTRY_SIZE;
}

export const regionRemapCodec: Codec<RemapPayload> = {
  decode(payload) {
    const reader = new WireReader(payload, FIXED, 'region remap');
    checkLength(payload, reader.u32(), 'region remap');
    checkZero(reader.u32(), 'flags');
    const region = reader.u32();
    const count = reader.u32();
    if (count === 0) throw new VfioUserError('EINVAL', 'region remap of no operations');
    checkLength(payload, remapSize(count), 'region remap');
    return { region, entries: Array.from({ length: count }, () => readEntry(reader)) };
  },
  encode({ region, entries }) {
    const size = remapSize(entries.length);
    const writer = new WireWriter(size).u32(size).u32(0).u32(region).u32(entries.length);
    for (const { op, prot, offset, length, fileOffset, fdIndex } of entries) {
      writer.u32(op).u32(prot).u64(offset).u64(length).u64(fileOffset).u32(fdIndex).u32(0);
    }
    return writer.bytes;
  },
};

function readEntry(reader: WireReader): RemapEntry {
  const op = reader.u32();
  const prot = reader.u32();
  const offset = reader.u64();
  const length = reader.u64();
  const fileOffset = reader.u64();
  const fdIndex = reader.u32();
  checkZero(reader.u32(), 'reserved');
  if (op === REGION_REMAP_OP_MAP) {
    checkFlags(prot, REGION_REMAP_PROT_READ | REGION_REMAP_PROT_WRITE, 'protection');
    if (prot === 0) throw new VfioUserError('EINVAL', 'mapping without any protection bit');
  } else if (op === REGION_REMAP_OP_UNMAP) {
    checkZero(prot, 'protection of an unmap');
    checkZero(fileOffset, 'file offset of an unmap');
    checkZero(fdIndex, 'fd index of an unmap');
  } else {
    throw new VfioUserError('EINVAL', `unknown remap operation ${op}`);
  }
  if (length === 0n) throw new VfioUserError('EINVAL', 'remap of 0 bytes');
  narrow(offset + length, 'end of remap');
  narrow(fileOffset + length, 'end of remap file range');
  return {
    op,
    prot,
    offset: Number(offset),
    length: Number(length),
    fileOffset: Number(fileOffset),
    fdIndex,
  };
}
