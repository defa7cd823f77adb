import { VvuError } from '../errors.js';
import type { FdInfo } from '../native.js';
import type { FrontendLog, FrontendRegion } from '../tunnel/ports.js';
import { WINDOW_PAGE, type PlaceableRegion } from './placement.js';

/** A frontend's region, checked by itself: sizes are safe integers and lie inside of its file. */
export interface CheckedRegion extends PlaceableRegion {
  readonly source: Omit<FrontendRegion, 'fd'>;
  readonly fd: number;
  readonly blockSize: number;
}

const ADDRESS_SPACE = 1n << 64n;
/** Linux's <fcntl.h>. */
const F_SEAL_SHRINK = 0x2;

function bad(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

/** One line that names a region, for logs and errors. */
export function describeRegion(region: Omit<FrontendRegion, 'fd'>): string {
  const { guestAddress, size, userAddress, mmapOffset } = region;
  return (
    `region guest 0x${guestAddress.toString(16)} size 0x${size.toString(16)} ` +
    `user 0x${userAddress.toString(16)} mmap_offset 0x${mmapOffset.toString(16)}`
  );
}

/** The same for a dirty log. */
export function describeLog({ size, mmapOffset }: Omit<FrontendLog, 'fd'>): string {
  return `dirty log size 0x${size.toString(16)} mmap_offset 0x${mmapOffset.toString(16)}`;
}

/**
 * Checks a region against its file.
 * @throws VvuError of scope `request` that says what is wrong with which value
 */
export function checkRegion(source: FrontendRegion, info: FdInfo): CheckedRegion {
  const { guestAddress, size, userAddress, mmapOffset, fd } = source;
  const what = describeRegion(source);
  if (size === 0n) throw bad('REGION_EMPTY', `${what}: size is 0`);
  if (guestAddress + size > ADDRESS_SPACE || userAddress + size > ADDRESS_SPACE) {
    throw bad('REGION_OVERFLOW', `${what}: address + size exceeds 2^64`);
  }
  if (mmapOffset + size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw bad('REGION_OVERFLOW', `${what}: mmap_offset + size is beyond any file`);
  }
  if (info.kind !== 'file') throw bad('REGION_FD', `${what}: fd is a ${info.kind}, not a file`);
  if (!info.writable) throw bad('REGION_FD', `${what}: fd is read-only`);
  if (mmapOffset + size > BigInt(info.size)) {
    throw bad(
      'REGION_BEYOND_FILE',
      `${what}: ends behind its file of 0x${info.size.toString(16)} bytes`,
    );
  }
  return {
    source: { guestAddress, size, userAddress, mmapOffset },
    fd,
    blockSize: info.blockSize,
    length: Number(size),
    fileOffset: Number(mmapOffset),
    dev: info.dev,
    ino: info.ino,
  };
}

/**
 * Asks for a memfd that cannot shrink: the appliance's VMM may map it, and has to survive.
 * @throws VvuError `REGION_UNSEALED`
 */
export function checkSealed({ seals }: FdInfo): void {
  if (seals < 0 || (seals & F_SEAL_SHRINK) === 0) {
    throw bad('REGION_UNSEALED', 'the fd is no memfd that is sealed against shrinking');
  }
}

/** The region up to the end of its last page, if the file has it: only pages can be mapped. */
export function wholePages(region: CheckedRegion, { size }: FdInfo): CheckedRegion {
  const end = Math.ceil((region.fileOffset + region.length) / WINDOW_PAGE) * WINDOW_PAGE;
  return end > size ? region : { ...region, length: end - region.fileOffset };
}

/** @throws VvuError `REGION_OVERLAP` when two regions share a guest or a user address */
export function checkOverlaps(regions: readonly CheckedRegion[]): void {
  for (const key of ['guestAddress', 'userAddress'] as const) {
    const sorted = [...regions].sort((a, b) => (a.source[key] < b.source[key] ? -1 : 1));
    sorted.forEach((region, i) => {
      const next = sorted[i + 1];
      if (next && region.source[key] + region.source.size > next.source[key]) {
        throw bad(
          'REGION_OVERLAP',
          `${describeRegion(region.source)} overlaps ${describeRegion(next.source)} in ${key}`,
        );
      }
    });
  }
}

/** Whether a REM_MEM_REG names this region: guest address, size and user address must be equal. */
export function isSameRegion(region: CheckedRegion, named: Omit<FrontendRegion, 'fd'>): boolean {
  return (
    region.source.guestAddress === named.guestAddress &&
    region.source.size === named.size &&
    region.source.userAddress === named.userAddress
  );
}

/** Whether two regions are the same bytes of one file at the same addresses. */
export function isIdenticalRegion(a: CheckedRegion, b: CheckedRegion): boolean {
  return (
    isSameRegion(a, b.source) && a.fileOffset === b.fileOffset && a.dev === b.dev && a.ino === b.ino
  );
}
