/** A window all of which is mapped: what a hypervisor traps of it, it traps without us. */
import { VvuError } from '../errors.js';
import type { Native } from '../native.js';
import type { WindowAccess } from './pci-access.js';
import type { RegionAreas } from './region-areas.js';
import { WindowMemory } from './window-memory.js';

/** `areas` cover [offset, offset + length) of the BAR, and stay the caller's. */
export function mappedWindow(
  native: Native,
  areas: RegionAreas,
  offset: number,
  length: number,
): WindowAccess {
  return new WindowMemory(areas, nothingTrapped, offset, length, () => native.fence(), true);
}

const nothingTrapped = { read: outside, write: outside };

function outside(): never {
  throw new VvuError('WINDOW_RANGE', 'request', 'outside of the window');
}
