import type { NativeMemory } from '../native.js';
import type { RegisterBlock } from '../virtio/ports.js';

/** A part of the window that loads and stores can reach through the device's own mapping. */
export interface WindowSlice {
  /** Byte offset in the window. */
  readonly offset: number;
  readonly length: number;
  readonly memory: NativeMemory;
  /** Where the slice starts in `memory`. */
  readonly memoryOffset: number;
}

/**
 * The window for accesses that arrive one by one. Where nothing is shown it reads as zeros, and
 * swallows writes; an access may span several slices.
 */
export class WindowBlock implements RegisterBlock {
  #slices: readonly WindowSlice[] = [];

  constructor(readonly size: number) {}

  /** Shows exactly these slices, which must not overlap. */
  show(slices: readonly WindowSlice[]): void {
    this.#slices = [...slices].sort((a, b) => a.offset - b.offset);
  }

  read(offset: number, target: Uint8Array): void {
    target.fill(0);
    this.#each(offset, target.length, ({ memory }, at, start, end) => {
      memory.readInto(at, target.subarray(start, end));
    });
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#each(offset, bytes.length, ({ memory }, at, start, end) => {
      memory.write(at, bytes.subarray(start, end));
    });
  }

  /** Calls back per slice that [offset, offset + length) meets, with offsets in memory and access. */
  #each(
    offset: number,
    length: number,
    access: (slice: WindowSlice, at: number, start: number, end: number) => void,
  ): void {
    for (const slice of this.#slices) {
      if (slice.offset >= offset + length) return;
      const from = Math.max(offset, slice.offset);
      const to = Math.min(offset + length, slice.offset + slice.length);
      if (from >= to) continue;
      access(slice, slice.memoryOffset + from - slice.offset, from - offset, to - offset);
    }
  }
}
