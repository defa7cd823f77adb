/** DMA memory carved out of one mapping that the device got when the driver attached. */
import { VvuError } from '../errors.js';
import type { GuestMemory, Iova } from '../virtio/ports.js';
import type { DmaBuffer } from './pci-access.js';

const PAGE = 4096;

interface Gap {
  readonly start: Iova;
  readonly size: number;
}

/**
 * First-fit allocator of whole pages. A driver allocates a few queues once, so simple is enough:
 * mapping each allocation by itself would need a round trip that a synchronous call cannot wait for.
 */
export class DmaPool {
  private gaps: Gap[];

  constructor(
    private readonly memory: GuestMemory,
    start: Iova,
    readonly size: number,
  ) {
    this.gaps = [{ start, size }];
  }

  /** Bytes that are not allocated. */
  get free(): number {
    return this.gaps.reduce((sum, gap) => sum + gap.size, 0);
  }

  /** @throws VvuError `DMA_POOL`, scope `setup`, when no gap is large enough */
  allocate(bytes: number): DmaBuffer {
    const size = Math.ceil(bytes / PAGE) * PAGE;
    const index = this.gaps.findIndex((gap) => gap.size >= size);
    const gap = this.gaps[index];
    if (gap === undefined || size === 0) {
      throw new VvuError('DMA_POOL', 'setup', `no ${size} bytes in a DMA pool of ${this.size}`);
    }
    const rest = { start: gap.start + size, size: gap.size - size };
    this.gaps.splice(index, 1, ...(rest.size > 0 ? [rest] : []));
    let allocated = true;
    return {
      iova: gap.start,
      size: bytes,
      memory: this.memory,
      free: () => {
        if (allocated) this.release({ start: gap.start, size });
        allocated = false;
      },
    };
  }

  private release(gap: Gap): void {
    const sorted = [...this.gaps, gap].sort((a, b) => a.start - b.start);
    const merged: Gap[] = [];
    for (const next of sorted) {
      const last = merged.at(-1);
      if (last !== undefined && last.start + last.size === next.start) {
        merged[merged.length - 1] = { start: last.start, size: last.size + next.size };
      } else {
        merged.push(next);
      }
    }
    this.gaps = merged;
  }
}
