/** The window through VFIO itself, for kernels that let nobody else map a BAR of an open device. */
import type { Logger } from '../log.js';
import { errorMessage } from '../errors.js';
import type { Native, VfioRegionInfo } from '../native.js';
import { RegionAreas } from './region-areas.js';

export interface VfioWindowPlace {
  /** The device's fd. */
  readonly device: number;
  readonly bar: number;
  readonly region: VfioRegionInfo;
  readonly offset: number;
  readonly length: number;
}

/**
 * Maps a range of a BAR, from a dma-buf of it where the kernel exports those to be mapped, else
 * from the device's own fd.
 *
 * Both can be handed to other processes. A dma-buf begins with the window. In the device's fd BAR N
 * is at an offset of N TiB: a backend that maps a region's `size` bytes at mmap_offset (rust-vmm's)
 * can use that, one that maps mmap_offset + size bytes from 0 on (DPDK's) cannot.
 */
export function mapVfioWindow(native: Native, place: VfioWindowPlace, log: Logger): RegionAreas {
  const { device, bar, region, offset, length } = place;
  let exported: number | undefined;
  try {
    exported = native.vfioExportRegion(device, bar, offset, length);
    const areas = mapRange(native, place, exported, 0);
    log.info({ bar, offset, length }, 'window mapped from a dma-buf');
    return areas;
  } catch (error) {
    log.debug({ bar, error: errorMessage(error) }, 'no dma-buf of the window');
  } finally {
    if (exported !== undefined) native.closeFd(exported);
  }
  const areas = mapRange(native, place, device, region.offset + offset);
  log.warn(
    { bar, offset, length },
    'window mapped through VFIO: backends that map files from offset 0, as DPDK does, need a kernel started with iomem=relaxed',
  );
  return areas;
}

function mapRange(
  native: Native,
  { region, offset, length }: VfioWindowPlace,
  fd: number,
  fileOffset: number,
): RegionAreas {
  const areas = new RegionAreas(
    {
      map: (from, { offset: at, length: count }) => native.mapDevice(from, at, count),
      dupFd: (from) => native.dupFd(from),
      closeFd: (from) => native.closeFd(from),
    },
    region.size,
  );
  areas.apply([{ kind: 'map', offset, length, fd, fileOffset, readable: true, writable: true }]);
  return areas;
}
