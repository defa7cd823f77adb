/** One interval [start, start + length) and what belongs to it. */
export interface Interval<T> {
  readonly start: number;
  readonly length: number;
  readonly value: T;
}

/** Intervals per chunk at most; a split leaves two halves. */
const CHUNK_CAPACITY = 512;

/**
 * Disjoint intervals of safe integers, sorted by start, for address translation.
 *
 * A sorted array cut into chunks: lookups are two binary searches, an insertion moves at most one
 * chunk's entries. 65,535 mappings (the protocol's default limit) take milliseconds to insert in any
 * order, where one flat array would move gigabytes.
 */
export class IntervalTable<T> {
  /** Never empty chunks, ascending. */
  #chunks: Interval<T>[][] = [];
  #size = 0;

  /** Number of intervals. */
  get size(): number {
    return this.#size;
  }

  /** The interval that contains `address`. */
  find(address: number): Interval<T> | undefined {
    const candidate = this.#floor(address);
    return candidate !== undefined && address - candidate.start < candidate.length
      ? candidate
      : undefined;
  }

  /** The first interval that shares a byte with [start, start + length). */
  firstOverlap(start: number, length: number): Interval<T> | undefined {
    for (const interval of this.overlapping(start, length)) return interval;
    return undefined;
  }

  /** All intervals that share a byte with [start, start + length), ascending. */
  *overlapping(start: number, length: number): Generator<Interval<T>, void, undefined> {
    const end = start + length;
    let [chunk, index] = this.#locate(start);
    const before = this.#chunks[chunk]?.[index];
    if (before !== undefined && before.start + before.length <= start) index += 1;
    for (; chunk < this.#chunks.length; chunk += 1, index = 0) {
      const entries = this.#chunks[chunk] ?? [];
      for (; index < entries.length; index += 1) {
        const interval = entries[index];
        if (interval === undefined || interval.start >= end) return;
        yield interval;
      }
    }
  }

  /** Whether every byte of [start, start + length) lies in an interval that passes `accept`. */
  covers(start: number, length: number, accept: (value: T) => boolean = () => true): boolean {
    let next = start;
    for (const interval of this.overlapping(start, length)) {
      if (interval.start > next || !accept(interval.value)) return false;
      next = interval.start + interval.length;
    }
    return next >= start + length;
  }

  /** Adds an interval of at least one byte. @returns false if it overlaps another */
  insert(start: number, length: number, value: T): boolean {
    if (length <= 0 || this.firstOverlap(start, length) !== undefined) return false;
    const interval = { start, length, value };
    const [chunk, floor] = this.#locate(start);
    const entries = this.#chunks[chunk];
    if (entries === undefined) {
      this.#chunks.push([interval]);
    } else {
      const at = (entries[floor]?.start ?? Infinity) < start ? floor + 1 : floor;
      entries.splice(at, 0, interval);
      if (entries.length > CHUNK_CAPACITY) {
        this.#chunks.splice(chunk + 1, 0, entries.splice(CHUNK_CAPACITY / 2));
      }
    }
    this.#size += 1;
    return true;
  }

  /** Removes the interval that starts at `start`, whatever its length. */
  remove(start: number): Interval<T> | undefined {
    const [chunk, index] = this.#locate(start);
    const entries = this.#chunks[chunk];
    const interval = entries?.[index];
    if (entries === undefined || interval?.start !== start) return undefined;
    entries.splice(index, 1);
    if (entries.length === 0) this.#chunks.splice(chunk, 1);
    this.#size -= 1;
    return interval;
  }

  clear(): void {
    this.#chunks = [];
    this.#size = 0;
  }

  *[Symbol.iterator](): Generator<Interval<T>, void, undefined> {
    for (const entries of this.#chunks) yield* entries;
  }

  /** The last interval that starts at or before `address`. */
  #floor(address: number): Interval<T> | undefined {
    const [chunk, index] = this.#locate(address);
    const interval = this.#chunks[chunk]?.[index];
    return interval !== undefined && interval.start <= address ? interval : undefined;
  }

  /**
   * Chunk and index of the last interval that starts at or before `address`, or [0, 0] if all start
   * behind it.
   */
  #locate(address: number): [number, number] {
    const chunk = lastAtOrBefore(this.#chunks, (entries) => entries[0]?.start ?? 0, address);
    const entries = this.#chunks[chunk] ?? [];
    return [chunk, lastAtOrBefore(entries, (interval) => interval.start, address)];
  }
}

/** Binary search; 0 when all keys are greater. */
function lastAtOrBefore<E>(items: readonly E[], key: (item: E) => number, limit: number): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const item = items[middle];
    if (item !== undefined && key(item) <= limit) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}
