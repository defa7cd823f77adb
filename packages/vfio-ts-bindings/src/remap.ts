import type { RemapEntry, RemapPayload } from './codec/region-remap.js';
import type { RemapOp } from './connection.js';
import {
  REGION_REMAP_OP_MAP,
  REGION_REMAP_OP_UNMAP,
  REGION_REMAP_PROT_READ,
  REGION_REMAP_PROT_WRITE,
} from './constants.js';
import type { VfioUserRegion } from './device.js';
import { VfioUserError } from './errors.js';
import { PAGE_SIZE } from './negotiation.js';
import { hex } from './wire.js';

/** An area of a region that shows a file, as a `region_remap` left it. */
export interface RemappedArea {
  readonly offset: number;
  readonly length: number;
}

/** One command ready to be sent. */
export interface EncodedRemap {
  readonly payload: RemapPayload;
  /** Each fd once, in the order of the entries' `fdIndex`. */
  readonly fds: readonly number[];
}

/**
 * From operations to a command.
 * @throws VfioUserError EINVAL (bounds, alignment, an area that is mappable anyway), E2BIG (more operations or different fds than
 * the client accepts in one message; splitting would not be atomic)
 */
export function encodeRemap(
  region: number,
  { size, mmap }: Pick<VfioUserRegion, 'size' | 'mmap'>,
  ops: readonly RemapOp[],
  limits: { readonly maxRemapOps: number; readonly maxMsgFds: number },
): EncodedRemap {
  if (ops.length === 0) throw new VfioUserError('EINVAL', 'remap of no operations');
  const fds = [...new Set(ops.flatMap((op) => (op.kind === 'map' ? [op.fd] : [])))];
  if (ops.length > limits.maxRemapOps || fds.length > limits.maxMsgFds) {
    throw new VfioUserError('E2BIG', `remap of ${ops.length} operations and ${fds.length} fds`);
  }
  const announced = mmap === undefined ? [] : (mmap.areas ?? [{ offset: 0, size }]);
  for (const op of ops) {
    checkOp(op, size);
    const over = announced.some(
      (area) => area.offset < op.offset + op.length && op.offset < area.offset + area.size,
    );
    if (over) throw new VfioUserError('EINVAL', `remap over a mappable area at ${hex(op.offset)}`);
  }
  const entries = ops.map((op): RemapEntry => {
    const { offset, length } = op;
    if (op.kind === 'unmap') {
      return { op: REGION_REMAP_OP_UNMAP, prot: 0, offset, length, fileOffset: 0, fdIndex: 0 };
    }
    const prot =
      (op.readable ? REGION_REMAP_PROT_READ : 0) | (op.writable ? REGION_REMAP_PROT_WRITE : 0);
    const { fileOffset } = op;
    return {
      op: REGION_REMAP_OP_MAP,
      prot,
      offset,
      length,
      fileOffset,
      fdIndex: fds.indexOf(op.fd),
    };
  });
  return { payload: { region, entries }, fds };
}

/**
 * From a command to operations, on the client.
 * @throws VfioUserError EINVAL: an fd index without fd, an fd that no operation uses, unaligned
 */
export function decodeRemap({ entries }: RemapPayload, fds: readonly number[]): RemapOp[] {
  const used = new Set<number>();
  const ops = entries.map((entry): RemapOp => {
    const { offset, length, fileOffset, prot } = entry;
    if (entry.op === REGION_REMAP_OP_UNMAP) return { kind: 'unmap', offset, length };
    const fd = fds[entry.fdIndex];
    if (fd === undefined)
      throw new VfioUserError('EINVAL', `no fd ${entry.fdIndex} in the message`);
    used.add(entry.fdIndex);
    const readable = (prot & REGION_REMAP_PROT_READ) !== 0;
    const writable = (prot & REGION_REMAP_PROT_WRITE) !== 0;
    return { kind: 'map', offset, length, fd, fileOffset, readable, writable };
  });
  if (used.size !== fds.length) throw new VfioUserError('EINVAL', 'fds that no operation uses');
  for (const op of ops) checkOp(op, Number.MAX_SAFE_INTEGER);
  return ops;
}

/**
 * What a region's remapped areas are after the operations, in order: the check that a client's
 * handler makes before it applies anything.
 * @param areas the areas before, disjoint
 * @returns the areas after, ascending
 * @throws VfioUserError EINVAL (beyond the region, unaligned, an unmap that cuts an area), EEXIST (a
 * map over an area), ENOENT (an unmap of nothing)
 */
export function applyRemap(
  areas: readonly RemappedArea[],
  ops: readonly RemapOp[],
  regionSize: number,
): RemappedArea[] {
  let result = [...areas];
  for (const op of ops) {
    checkOp(op, regionSize);
    const { offset, length } = op;
    const end = offset + length;
    const touched = result.filter(
      (area) => area.offset < end && offset < area.offset + area.length,
    );
    if (op.kind === 'map') {
      if (touched.length > 0) throw new VfioUserError('EEXIST', `remap over ${hex(offset)}`);
      result.push({ offset, length });
      continue;
    }
    if (touched.length === 0) throw new VfioUserError('ENOENT', `nothing at ${hex(offset)}`);
    const cut = touched.some((area) => area.offset < offset || area.offset + area.length > end);
    if (cut) throw new VfioUserError('EINVAL', `unmap at ${hex(offset)} cuts an area`);
    result = result.filter((area) => !touched.includes(area));
  }
  return result.sort((a, b) => a.offset - b.offset);
}

function checkOp(op: RemapOp, regionSize: number): void {
  const numbers = [op.offset, op.length, ...(op.kind === 'map' ? [op.fileOffset] : [])];
  const what = `remap of ${op.offset} + ${op.length}`;
  if (op.length <= 0 || !numbers.every((n) => n >= 0 && n % PAGE_SIZE === 0)) {
    throw new VfioUserError('EINVAL', `${what} is empty or unaligned`);
  }
  if (op.offset + op.length > regionSize) {
    throw new VfioUserError('EINVAL', `${what} is beyond the region's ${hex(regionSize)}`);
  }
  if (op.kind === 'map' && !op.readable && !op.writable) {
    throw new VfioUserError('EINVAL', `${what} without access rights`);
  }
}
