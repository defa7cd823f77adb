/** The parts of a BAR that are mapped into this process, and come and go with `region_remap`. */
import { IntervalTable, type RemapOp } from 'vfio-ts-bindings';
import { VvuError } from '../errors.js';
import type { Native, NativeMemory } from '../native.js';

export interface MappedArea {
  /** Offset in the BAR. */
  readonly start: number;
  readonly end: number;
  readonly memory: NativeMemory;
  readonly writable: boolean;
  /** The file behind it, for other processes to map; closed with the mapping. */
  readonly fd: number;
  /** Where the area starts in that file. */
  readonly fileOffset: number;
}

type Mapper = Pick<Native, 'map' | 'dupFd' | 'closeFd'>;

/** Owns the mappings and duplicates of their fds. Lookups cost nothing for an access near the one before. */
export class RegionAreas {
  private table = new IntervalTable<MappedArea>();
  private last: MappedArea | undefined;

  constructor(
    private readonly native: Mapper,
    readonly size: number,
  ) {}

  /** Number of mapped areas. */
  get count(): number {
    return this.table.size;
  }

  find(offset: number): MappedArea | undefined {
    const { last } = this;
    if (last !== undefined && offset >= last.start && offset < last.end) return last;
    const found = this.table.find(offset)?.value;
    if (found !== undefined) this.last = found;
    return found;
  }

  /** Whether all of [offset, offset + length) is mapped. */
  covers(offset: number, length: number): boolean {
    return this.table.covers(offset, length);
  }

  /** Where the next mapped area starts, at or behind `offset`, or `end`. */
  nextStart(offset: number, end: number): number {
    return this.table.firstOverlap(offset, end - offset)?.start ?? end;
  }

  /**
   * Applies the operations in order: all of them, or none when one is invalid. The fds stay the
   * caller's.
   * @throws VvuError of scope `request`
   */
  apply(ops: readonly RemapOp[]): void {
    const table = new IntervalTable<MappedArea>();
    for (const { start, length, value } of this.table) table.insert(start, length, value);
    const fresh: MappedArea[] = [];
    try {
      for (const op of ops) {
        this.check(op);
        if (op.kind === 'unmap') {
          remove(table, op.offset, op.length);
          continue;
        }
        if (table.firstOverlap(op.offset, op.length) !== undefined) {
          throw refused('REMAP_OVERLAP', op);
        }
        const area = this.map(op);
        fresh.push(area);
        table.insert(op.offset, op.length, area);
      }
    } catch (error) {
      for (const area of fresh) this.release(area);
      throw error;
    }
    this.replace(table, fresh);
  }

  /** Unmaps everything. */
  clear(): void {
    this.replace(new IntervalTable(), []);
  }

  private check(op: RemapOp): void {
    const end = op.offset + op.length;
    if (!(op.offset >= 0 && op.length > 0 && end <= this.size)) throw refused('REMAP_RANGE', op);
  }

  private map(op: Extract<RemapOp, { kind: 'map' }>): MappedArea {
    const { fd, fileOffset, length, writable, offset } = op;
    const memory = this.native.map(fd, { offset: fileOffset, length, writable });
    try {
      const own = this.native.dupFd(fd);
      return { start: offset, end: offset + length, memory, writable, fd: own, fileOffset };
    } catch (error) {
      memory.release();
      throw error;
    }
  }

  /** Releases once: an area may be both old and replaced. */
  private release(area: MappedArea): void {
    if (area.memory.released) return;
    area.memory.release();
    this.native.closeFd(area.fd);
  }

  /** Releases what the new table no longer holds: also areas that came and went in one batch. */
  private replace(table: IntervalTable<MappedArea>, fresh: readonly MappedArea[]): void {
    const kept = new Set<MappedArea>();
    for (const { value } of table) kept.add(value);
    const old = [...this.table].map(({ value }) => value);
    this.table = table;
    this.last = undefined;
    for (const area of [...old, ...fresh]) {
      if (!kept.has(area)) this.release(area);
    }
  }
}

/** An unmapped range takes whole areas away, and must not cut one. */
function remove(table: IntervalTable<MappedArea>, offset: number, length: number): void {
  const found = [...table.overlapping(offset, length)];
  const inside = found.every(
    (area) => area.start >= offset && area.start + area.length <= offset + length,
  );
  if (!inside) throw refused('REMAP_CUT', { offset, length });
  for (const area of found) table.remove(area.start);
}

function refused(code: string, op: { readonly offset: number; readonly length: number }): VvuError {
  return new VvuError(code, 'request', `remap of 0x${op.offset.toString(16)} + ${op.length}`);
}
