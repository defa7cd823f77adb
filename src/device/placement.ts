import { VvuError } from '../errors.js';
import type { WindowHost, WindowKind, WindowPlacement } from './ports.js';

/** Page granularity of mappings into a guest. */
export const WINDOW_PAGE = 4096;

/** What placement needs to know of a region. */
export interface PlaceableRegion {
  readonly length: number;
  readonly fileOffset: number;
  readonly dev: bigint;
  readonly ino: bigint;
}

export interface PlacedRegion<R extends PlaceableRegion> {
  readonly region: R;
  readonly placement: WindowPlacement;
}

/** True where two half-open ranges meet. */
export function rangesOverlap(a: number, aLength: number, b: number, bLength: number): boolean {
  return a < b + bLength && b < a + aLength;
}

/**
 * Finds a place in the window for regions that are not shown yet.
 *
 * The preset file shows its own regions where they lie in it. Everything else goes to the first
 * gap, behind the preset file's area: mapped where the host can and the region is page aligned,
 * trapped otherwise. Gaps are searched in table order, so that a table without preset regions is
 * packed back to back, as the RFC's drivers expect.
 *
 * @throws VvuError `WINDOW_FULL` (scope request) when the window cannot hold them
 */
export function placeRegions<R extends PlaceableRegion>(
  window: Pick<WindowHost, 'size' | 'preset' | 'dynamic'>,
  occupied: readonly PlacedRegion<R>[],
  regions: readonly R[],
): PlacedRegion<R>[] {
  const placed: PlacedRegion<R>[] = [];
  for (const region of regions) {
    const taken = [...occupied, ...placed];
    placed.push({ region, placement: placeOne(window, taken, region) });
  }
  return placed;
}

/**
 * Finds the place of the dirty log: at a page behind all regions of the table (the
 * draft's region M), so that a table of more regions does not move it. Where there is no room
 * behind them it goes to the first gap.
 *
 * @throws VvuError `WINDOW_FULL` or `WINDOW_ALIAS` (scope request), as for other regions
 */
export function placeLog<R extends PlaceableRegion>(
  window: Pick<WindowHost, 'size' | 'preset' | 'dynamic'>,
  table: readonly PlacedRegion<R>[],
  inflight: readonly PlacedRegion<R>[],
  log: R,
): PlacedRegion<R> {
  const placement = placeOne(window, [...table, ...inflight], log);
  if (placement.kind === 'preset') return { region: log, placement };
  const ends = table.map(({ region, placement: { offset } }) => offset + region.length);
  const end = Math.max(window.preset?.size ?? 0, ...ends);
  const offset = Math.ceil(end / WINDOW_PAGE) * WINDOW_PAGE;
  const top = Math.min(window.size, ...inflight.map((one) => one.placement.offset));
  if (offset + log.length > top) return { region: log, placement };
  return { region: log, placement: { ...placement, offset } };
}

/**
 * Finds the place of the in-flight area: pages at the window's end, because it comes before the
 * memory table, which has to begin at the window's start for the drivers that pack regions.
 *
 * @throws VvuError `WINDOW_FULL` or `WINDOW_ALIAS` (scope request), as for other regions
 */
export function placeInflight<R extends PlaceableRegion>(
  window: Pick<WindowHost, 'size' | 'preset' | 'dynamic'>,
  occupied: readonly PlacedRegion<R>[],
  inflight: R,
): PlacedRegion<R> {
  const placement = placeOne(window, occupied, inflight);
  if (placement.kind === 'preset') return { region: inflight, placement };
  const { length } = inflight;
  const highest = window.size - Math.ceil(length / WINDOW_PAGE) * WINDOW_PAGE;
  const floor = window.preset?.size ?? 0;
  const free = !occupied.some(({ region, placement: { offset } }) =>
    rangesOverlap(highest, length, offset, region.length),
  );
  const offset = free && highest >= floor ? highest : placement.offset;
  return { region: inflight, placement: { ...placement, offset } };
}

function placeOne<R extends PlaceableRegion>(
  window: Pick<WindowHost, 'size' | 'preset' | 'dynamic'>,
  taken: readonly PlacedRegion<R>[],
  region: R,
): WindowPlacement {
  const { preset } = window;
  if (preset?.dev === region.dev && preset.ino === region.ino) {
    if (region.fileOffset + region.length > preset.size) {
      throw new VvuError(
        'WINDOW_FULL',
        'request',
        `region [${hex(region.fileOffset)}, +${hex(region.length)}) of the preset file ends behind ` +
          `the ${hex(preset.size)} bytes that the window shows of it`,
      );
    }
    const twice = taken.some(({ region: { length }, placement: { offset } }) =>
      rangesOverlap(region.fileOffset, region.length, offset, length),
    );
    if (twice) {
      // Drivers lay regions out one after the other, and could not be told of this one's place.
      throw new VvuError(
        'WINDOW_ALIAS',
        'request',
        `[${hex(region.fileOffset)}, +${hex(region.length)}) of the preset file is in the table already`,
      );
    }
    return { offset: region.fileOffset, kind: 'preset' };
  }
  const kind: WindowKind = window.dynamic && mappable(region) ? 'dynamic' : 'trapped';
  const floor = preset ? preset.size : 0;
  const offset = firstGap(taken, floor, region.length, kind === 'dynamic' ? WINDOW_PAGE : 1);
  if (offset + region.length > window.size) {
    throw new VvuError(
      'WINDOW_FULL',
      'request',
      `no room for a region of ${hex(region.length)} bytes in a window of ${hex(window.size)} ` +
        `bytes${preset ? " with a preset file that is not the region's" : ''}`,
    );
  }
  return { offset, kind };
}

/** Whether a region can be mapped into the guest on its own, page by page. */
function mappable(region: PlaceableRegion): boolean {
  return region.fileOffset % WINDOW_PAGE === 0 && region.length % WINDOW_PAGE === 0;
}

function firstGap<R extends PlaceableRegion>(
  taken: readonly PlacedRegion<R>[],
  floor: number,
  length: number,
  alignment: number,
): number {
  const sorted = [...taken].sort((a, b) => a.placement.offset - b.placement.offset);
  let offset = floor;
  for (const { region, placement } of sorted) {
    if (rangesOverlap(offset, length, placement.offset, region.length)) {
      const end = placement.offset + region.length;
      offset = Math.ceil(end / alignment) * alignment;
    }
  }
  return offset;
}

/**
 * The order and the mmap_offset values with which a driver that lays regions out one after the
 * other, size + mmap_offset bytes each, computes exactly the places given (PROTOCOLS: RFC and 2019
 * drivers): regions by rising offset, each with the gap before it as its mmap_offset. Where there
 * are no gaps all mmap_offsets are 0, which the drivers that ignore it expect.
 */
export function packForGuest<R extends PlaceableRegion>(
  placed: readonly PlacedRegion<R>[],
): { readonly region: R; readonly mmapOffset: number }[] {
  const sorted = [...placed].sort((a, b) => a.placement.offset - b.placement.offset);
  let sum = 0;
  return sorted.map(({ region, placement }) => {
    const mmapOffset = placement.offset - sum;
    sum = placement.offset + region.length;
    return { region, mmapOffset };
  });
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
