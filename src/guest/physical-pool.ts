/** DMA memory by physical address, for devices without an IOMMU in front of them. */
import { VvuError, errorCode, errorMessage } from '../errors.js';
import type { Native, NativeMemory } from '../native.js';
import { MappedMemory } from '../virtio/mapped-memory.js';
import { DmaPool } from './dma-pool.js';

export interface PhysicalPool {
  /** Owned by the caller. */
  readonly memory: NativeMemory;
  /** Addresses are physical. */
  readonly allocator: DmaPool;
  readonly hugepages: boolean;
}

const PAGE = 4096;
/** Locked pages have no order: twice the memory gives the kernel an aligned 2 MiB to find. */
const LOCKED_FACTOR = 2;

/**
 * `size` bytes of hugepages, or else the longest contiguous run of locked pages.
 * @throws VvuError `NO_DMA_MEMORY`, scope `setup`
 */
export function createPhysicalPool(native: Native, size: number, needed: number): PhysicalPool {
  let failure: unknown;
  for (const hugepages of [true, false]) {
    let memory: NativeMemory | undefined;
    try {
      memory = native.lockedMemory(hugepages ? size : size * LOCKED_FACTOR, hugepages);
      const run = longestRun(native.physicalPages(memory));
      if (run.pages * PAGE >= needed) return poolOf(native, memory, run, hugepages);
      failure = new Error(`no ${needed} contiguous bytes`);
    } catch (error) {
      failure = error;
      // Physical addresses are refused for any memory.
      if (errorCode(error) === 'EPERM') {
        memory?.release();
        break;
      }
    }
    memory?.release();
  }
  throw new VvuError(
    'NO_DMA_MEMORY',
    'setup',
    `no memory for DMA (${errorMessage(failure)}): reserve hugepages, for example with "echo 16 > /proc/sys/vm/nr_hugepages"`,
    { cause: failure },
  );
}

export interface Run {
  /** Index of its first page. */
  readonly first: number;
  readonly pages: number;
  /** Physical address. */
  readonly address: number;
}

/** The longest stretch of pages that are neighbours in physical memory too. */
export function longestRun(addresses: Float64Array): Run {
  let best: Run = { first: 0, pages: 0, address: 0 };
  let first = 0;
  for (let page = 0; page < addresses.length; page++) {
    const address = addresses[page] ?? 0;
    if (page > first && address !== (addresses[page - 1] ?? 0) + PAGE) first = page;
    const pages = page - first + 1;
    if (pages > best.pages) best = { first, pages, address: addresses[first] ?? 0 };
  }
  return best;
}

function poolOf(native: Native, memory: NativeMemory, run: Run, hugepages: boolean): PhysicalPool {
  const size = run.pages * PAGE;
  const mapped = new MappedMemory(native);
  const offset = run.first * PAGE;
  mapped.insert(run.address, size, { memory, offset, readable: true, writable: true });
  return { memory, allocator: new DmaPool(mapped, run.address, size), hugepages };
}
