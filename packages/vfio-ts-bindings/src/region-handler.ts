import { ioFdsSize, IO_FDS_SIZE, type IoFdsReply, type IoFdsRequest } from './codec/io-fds.js';
import type {
  RegionAccess,
  RegionData,
  WriteMultiReply,
  WriteMultiRequest,
} from './codec/region-access.js';
import {
  REGION_INFO_SIZE,
  regionInfoSize,
  type RegionInfoReply,
  type RegionInfoRequest,
} from './codec/region-info.js';
import {
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
} from './constants.js';
import type { RegionIoFd, VfioUserDevice, VfioUserRegion } from './device.js';
import type { Outcome } from './dispatcher.js';
import { VfioUserError } from './errors.js';
import { PAGE_SIZE } from './negotiation.js';
import { hex } from './wire.js';

/** Region information and region accesses of one device. */
export class RegionHandler {
  constructor(private readonly device: VfioUserDevice) {}

  /**
   * A reply that the client's argsz has no room for is cut to the fixed part. It tells the argsz
   * that is needed and where the capabilities will be, and carries no fd: the client asks again.
   */
  info({ argsz, index }: RegionInfoRequest, maxMsgFds: number): Outcome<RegionInfoReply> {
    const region = this.#region(index);
    const mmap = maxMsgFds > 0 ? region.mmap : undefined;
    const needed = regionInfoSize(mmap?.areas);
    const flags =
      (region.readable ? VFIO_REGION_INFO_FLAG_READ : 0) |
      (region.writable ? VFIO_REGION_INFO_FLAG_WRITE : 0) |
      (mmap === undefined ? 0 : VFIO_REGION_INFO_FLAG_MMAP) |
      (mmap?.areas === undefined ? 0 : VFIO_REGION_INFO_FLAG_CAPS);
    const reply = {
      argsz: needed,
      flags,
      index,
      size: region.size,
      offset: mmap?.fileOffset ?? 0,
      areas: mmap?.areas,
    };
    if (argsz < needed) return { reply, truncate: REGION_INFO_SIZE };
    return mmap === undefined ? { reply } : { reply, fds: [mmap.fd] };
  }

  /** Entries whose fd does not fit into one message are left out: they only save messages. */
  ioFds({ argsz, index }: IoFdsRequest, maxMsgFds: number): Outcome<IoFdsReply> {
    this.#region(index);
    const fds: number[] = [];
    const entries = (this.device.regionIoFds?.(index) ?? []).flatMap((entry: RegionIoFd) => {
      if (!fds.includes(entry.fd)) {
        if (fds.length >= maxMsgFds) return [];
        fds.push(entry.fd);
      }
      const { offset, size, type, flags, value } = entry;
      return [{ offset, size, type, flags, value, fdIndex: fds.indexOf(entry.fd) }];
    });
    const needed = ioFdsSize(entries.length);
    const reply = { argsz: needed, index, count: entries.length, entries };
    return argsz < needed ? { reply, truncate: IO_FDS_SIZE } : { reply, fds };
  }

  read({ offset, region, count }: RegionAccess, maxCount: number): Outcome<RegionData> {
    if (!this.#access(region, offset, count, maxCount).readable) {
      throw new VfioUserError('EPERM', `region ${region} is not readable`);
    }
    const data = new Uint8Array(count);
    this.device.regionRead(region, offset, data);
    return { reply: { offset, region, count, data } };
  }

  write({ offset, region, count, data }: RegionData, maxCount: number): Outcome<RegionAccess> {
    if (!this.#access(region, offset, count, maxCount).writable) {
      throw new VfioUserError('EPERM', `region ${region} is not writable`);
    }
    this.device.regionWrite(region, offset, data);
    return { reply: { offset, region, count } };
  }

  /** In order, up to the first that fails; only a failure of the very first one is an error. */
  writeMulti({ writes }: WriteMultiRequest, maxCount: number): Outcome<WriteMultiReply> {
    let count = 0;
    for (const write of writes) {
      try {
        this.write(write, maxCount);
      } catch (error) {
        if (count === 0) throw error;
        break;
      }
      count += 1;
    }
    return { reply: { count } };
  }

  #access(index: number, offset: number, count: number, maxCount: number): VfioUserRegion {
    const region = this.#region(index);
    if (count === 0 || count > maxCount) {
      throw new VfioUserError('EINVAL', `region access of ${count} bytes, allowed are ${maxCount}`);
    }
    if (offset > region.size || count > region.size - offset) {
      throw new VfioUserError(
        'EINVAL',
        `access to region ${index} at ${hex(offset)} + ${count} is beyond ${hex(region.size)}`,
      );
    }
    return region;
  }

  #region(index: number): VfioUserRegion {
    const region = this.device.regions[index];
    if (region === undefined) throw new VfioUserError('EINVAL', `no region ${index}`);
    return region;
  }
}

/**
 * Checks what a device says about its regions, because QEMU crashes on an area that is beyond its
 * region, and traps a whole BAR whose area is unaligned.
 * @throws VfioUserError EINVAL
 */
export function checkRegions(regions: readonly VfioUserRegion[]): void {
  regions.forEach(({ size, mmap }, index) => {
    if (mmap === undefined) return;
    let end = 0;
    for (const area of mmap.areas ?? [{ offset: 0, size }]) {
      const aligned = [area.offset, area.size, mmap.fileOffset].every((n) => n % PAGE_SIZE === 0);
      const inside = area.offset >= end && area.size > 0 && area.offset + area.size <= size;
      if (!aligned || !inside || mmap.fileOffset + area.offset < 0) {
        throw new VfioUserError(
          'EINVAL',
          `region ${index}: area ${area.offset} + ${area.size} cannot be mapped`,
        );
      }
      end = area.offset + area.size;
    }
  });
}
