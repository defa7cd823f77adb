import type { DmaMapRequest, DmaUnmapPayload } from './codec/dma.js';
import {
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
  VFIO_USER_F_DMA_REGION_FILE_IO,
  VFIO_USER_F_DMA_REGION_MMAP,
  VFIO_USER_F_DMA_REGION_READ,
  VFIO_USER_F_DMA_REGION_WRITE,
} from './constants.js';
import type { VfioUserDevice } from './device.js';
import { VfioUserError } from './errors.js';
import { IntervalTable, type Interval } from './interval-table.js';
import { PAGE_SIZE } from './negotiation.js';
import { hex } from './wire.js';

export interface DmaAccessRights {
  readonly readable: boolean;
  readonly writable: boolean;
}

/** First address that no mapping can reach: larger ones are refused with ERANGE. */
const ADDRESS_END = BigInt(Number.MAX_SAFE_INTEGER) + 1n;

/** DMA_MAP and DMA_UNMAP: the client's mappings, checked before the device hears of them. */
export class DmaHandler {
  readonly #maps = new IntervalTable<DmaAccessRights>();

  constructor(private readonly device: VfioUserDevice) {}

  get size(): number {
    return this.#maps.size;
  }

  /**
   * Ownership of the fd, if there is one, passes to the device; it is left in `fds` if the request
   * is refused before the device saw it.
   * @throws VfioUserError EINVAL (unaligned, no access right), EEXIST (overlap), ENOSPC (too many),
   * ENOTSUP (an fd for file I/O alone), or what the device throws
   */
  map({ flags, offset, address, size }: DmaMapRequest, fds: number[], maxMaps: number): void {
    const readable = (flags & VFIO_USER_F_DMA_REGION_READ) !== 0;
    const writable = (flags & VFIO_USER_F_DMA_REGION_WRITE) !== 0;
    if (!readable && !writable) throw new VfioUserError('EINVAL', 'DMA map without access rights');
    if (address % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0) {
      throw new VfioUserError('EINVAL', `DMA map ${hex(address)} + ${hex(size)} is unaligned`);
    }
    checkMapFd(flags, offset, fds.length);
    if (this.#maps.size >= maxMaps) {
      throw new VfioUserError('ENOSPC', `${this.#maps.size} DMA maps exist already`);
    }
    if (!this.#maps.insert(address, size, { readable, writable })) {
      throw new VfioUserError('EEXIST', `DMA map ${hex(address)} + ${hex(size)} overlaps`);
    }
    try {
      const fd = fds.shift();
      const fileOffset = fd === undefined ? 0 : offset;
      this.device.dmaMap({ address, size, fd, fileOffset, readable, writable });
    } catch (error) {
      this.#maps.remove(address);
      throw error;
    }
  }

  /**
   * Removes what lies in the range. The specification asks for exactly one earlier mapping; QEMU
   * with a vIOMMU also sends larger ranges that hold several or none (as Linux's type 1 IOMMU
   * allows): whenever its guest changes an I/O address space it empties all of it in some thirty
   * ranges, and complains of each that is refused. A range that cuts a mapping is refused, so that
   * no part of one stays behind unnoticed.
   * @throws VfioUserError EINVAL (empty, cuts a mapping; addresses with the ALL flag), ENOTSUP
   * (dirty bitmap)
   */
  unmap({ flags, address, size }: DmaUnmapPayload): void {
    if ((flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0) {
      throw new VfioUserError('ENOTSUP', 'dirty bitmaps are not supported');
    }
    if ((flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0) {
      if (address !== 0n || size !== 0n) {
        throw new VfioUserError('EINVAL', 'DMA unmap of all with an address or a size');
      }
      this.unmapAll();
      return;
    }
    const inside = this.#within(address, size);
    let failure: { readonly error: unknown } | undefined;
    for (const { start, length } of inside) {
      this.#maps.remove(start);
      try {
        this.device.dmaUnmap(start, length);
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure !== undefined) throw failure.error;
  }

  unmapAll(): void {
    this.#maps.clear();
    this.device.dmaUnmapAll();
  }

  /** @throws VfioUserError EFAULT (not mapped throughout) or EPERM */
  checkAccess(address: number, length: number, right: keyof DmaAccessRights): void {
    if (!Number.isSafeInteger(address + length) || !this.#maps.covers(address, length)) {
      throw new VfioUserError('EFAULT', `DMA to ${hex(address)} + ${hex(length)}: not mapped`);
    }
    if (!this.#maps.covers(address, length, (rights) => rights[right])) {
      throw new VfioUserError('EPERM', `DMA to ${hex(address)} + ${hex(length)}: not ${right}`);
    }
  }

  #within(address: bigint, size: bigint): Interval<DmaAccessRights>[] {
    const what = `DMA unmap ${hex(address)} + ${hex(size)}`;
    if (size === 0n) throw new VfioUserError('EINVAL', `${what} is empty`);
    const end = address + size < ADDRESS_END ? address + size : ADDRESS_END;
    const start = Number(address);
    const length = Number(end) - start;
    const inside = address < end ? [...this.#maps.overlapping(start, length)] : [];
    const cut = inside.some((map) => map.start < start || map.start + map.length > start + length);
    if (cut) throw new VfioUserError('EINVAL', `${what} cuts a mapping`);
    return inside;
  }
}

function checkMapFd(flags: number, offset: number, fds: number): void {
  const mmap = (flags & VFIO_USER_F_DMA_REGION_MMAP) !== 0;
  const fileIo = (flags & VFIO_USER_F_DMA_REGION_FILE_IO) !== 0;
  if ((mmap || fileIo) && fds === 0)
    throw new VfioUserError('EINVAL', 'mappable DMA without an fd');
  if (fileIo && !mmap) throw new VfioUserError('ENOTSUP', 'DMA by file I/O is not supported');
  if (fds > 0 && offset % PAGE_SIZE !== 0) {
    throw new VfioUserError('EINVAL', `DMA map with unaligned file offset ${hex(offset)}`);
  }
}
