import { IntervalTable } from 'vfio-ts-bindings';
import { VvuError } from '../errors.js';
import type { Native, NativeMemory } from '../native.js';
import type { GuestMemory, Iova } from './ports.js';

/** What lies behind a range of addresses. */
export interface MemoryBacking {
  /** Undefined for memory that came without a file and cannot be accessed. */
  readonly memory: NativeMemory | undefined;
  /** Where the range starts in `memory`. */
  readonly offset: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** A place in a native mapping. */
export interface LocatedMemory {
  readonly memory: NativeMemory;
  readonly offset: number;
}

interface Range extends MemoryBacking {
  readonly start: Iova;
  readonly end: Iova;
}

type Access = 'readable' | 'writable';

/**
 * Memory made of ranges that come and go at run time, each backed by a native mapping. Lookups are
 * logarithmic, and free for an access near the one before.
 */
export class MappedMemory implements GuestMemory {
  readonly #ranges = new IntervalTable<Range>();
  /** The range of the last access; never one that was removed. */
  #last: Range | undefined;

  constructor(private readonly native: Pick<Native, 'fence'>) {}

  /** Number of ranges. */
  get size(): number {
    return this.#ranges.size;
  }

  /** @returns false where the range overlaps another one */
  insert(start: Iova, length: number, backing: MemoryBacking): boolean {
    return this.#ranges.insert(start, length, { ...backing, start, end: start + length });
  }

  /** Removes the range that starts at `start`. */
  remove(start: Iova): MemoryBacking | undefined {
    this.#last = undefined;
    return this.#ranges.remove(start)?.value;
  }

  clear(): void {
    this.#last = undefined;
    this.#ranges.clear();
  }

  /**
   * Where [iova, iova + length) lies: in one mapping, without a gap.
   * @throws VvuError of scope `device`, also where it lies in several
   */
  locate(iova: Iova, length: number, access: Access): LocatedMemory {
    let first: LocatedMemory | undefined;
    this.#span(iova, length, access, (memory, offset, from) => {
      first ??= { memory, offset };
      if (memory !== first.memory || offset !== first.offset + from) {
        const at = `0x${(iova + from).toString(16)}`;
        throw new VvuError('DMA_SPLIT', 'device', `what is mapped at ${at} is in another place`);
      }
    });
    if (first === undefined) throw new VvuError('DMA_UNMAPPED', 'device', 'no bytes to find');
    return first;
  }

  read(iova: Iova, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    this.readInto(iova, bytes);
    return bytes;
  }

  readInto(iova: Iova, target: Uint8Array): void {
    const range = this.#find(iova, 'readable');
    if (iova + target.length <= range.end) {
      memoryOf(range).readInto(range.offset + iova - range.start, target);
      return;
    }
    this.#span(iova, target.length, 'readable', (memory, at, from, to) => {
      memory.readInto(at, target.subarray(from, to));
    });
  }

  write(iova: Iova, bytes: Uint8Array): void {
    const range = this.#find(iova, 'writable');
    if (iova + bytes.length <= range.end) {
      memoryOf(range).write(range.offset + iova - range.start, bytes);
      return;
    }
    // Nothing is written unless all of it can be.
    this.#span(iova, bytes.length, 'writable', () => undefined);
    this.#span(iova, bytes.length, 'writable', (memory, at, from, to) => {
      memory.write(at, bytes.subarray(from, to));
    });
  }

  loadU16(iova: Iova): number {
    const range = this.#field(iova, 2, 'readable');
    return memoryOf(range).loadU16(range.offset + iova - range.start);
  }

  storeU16(iova: Iova, value: number): void {
    const range = this.#field(iova, 2, 'writable');
    memoryOf(range).storeU16(range.offset + iova - range.start, value);
  }

  loadU32(iova: Iova): number {
    const range = this.#field(iova, 4, 'readable');
    return memoryOf(range).loadU32(range.offset + iova - range.start);
  }

  storeU32(iova: Iova, value: number): void {
    const range = this.#field(iova, 4, 'writable');
    memoryOf(range).storeU32(range.offset + iova - range.start, value);
  }

  fence(): void {
    this.native.fence();
  }

  /** The range that holds a whole naturally aligned field. */
  #field(iova: Iova, size: number, access: Access): Range {
    const range = this.#find(iova, access);
    if (iova + size > range.end) throw unmapped(range.end, access);
    return range;
  }

  #find(iova: Iova, access: Access): Range {
    let range = this.#last;
    if (range === undefined || iova < range.start || iova >= range.end) {
      range = this.#ranges.find(iova)?.value;
      if (range === undefined) throw unmapped(iova, access);
      this.#last = range;
    }
    if (!range[access]) throw denied(iova, access);
    return range;
  }

  /** Calls back per range of [iova, iova + length); throws at the first byte without one. */
  #span(
    iova: Iova,
    length: number,
    access: Access,
    visit: (memory: NativeMemory, at: number, from: number, to: number) => void,
  ): void {
    for (let done = 0; done < length;) {
      const at = iova + done;
      const range = this.#find(at, access);
      const count = Math.min(length - done, range.end - at);
      visit(memoryOf(range), range.offset + at - range.start, done, done + count);
      done += count;
    }
  }
}

function memoryOf(range: Range): NativeMemory {
  if (range.memory) return range.memory;
  throw new VvuError(
    'DMA_NO_FILE',
    'device',
    `the memory at 0x${range.start.toString(16)} came without a file: give the VM shared memory`,
  );
}

function unmapped(iova: Iova, access: Access): VvuError {
  return new VvuError(
    'DMA_UNMAPPED',
    'device',
    `address 0x${iova.toString(16)} is not mapped (${access})`,
  );
}

function denied(iova: Iova, access: Access): VvuError {
  return new VvuError(
    'DMA_PERMISSION',
    'device',
    `address 0x${iova.toString(16)} is mapped but not ${access}`,
  );
}
