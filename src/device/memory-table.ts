import { VvuError, errorMessage } from '../errors.js';
import type { Native, NativeMemory } from '../native.js';
import type {
  FrontendInflight,
  FrontendLog,
  FrontendRegion,
  ProvidedInflight,
  ShownRegion,
} from '../tunnel/ports.js';
import type { PlacedRegion } from './placement.js';
import { packForGuest, placeInflight, placeLog, placeRegions } from './placement.js';
import type { ShownWindowRegion, WindowHost, WindowRegionRole } from './ports.js';
import type { CheckedRegion } from './region.js';
import {
  checkOverlaps,
  checkRegion,
  checkSealed,
  describeLog,
  describeRegion,
  isIdenticalRegion,
  isSameRegion,
  wholePages,
} from './region.js';

type Memory = Pick<Native, 'map' | 'fdInfo' | 'dupFd' | 'closeFd' | 'createMemfd'>;

/** A region and its place. The log and the in-flight area are no regions of the table. */
interface Planned extends PlacedRegion<CheckedRegion> {
  readonly role?: Exclude<WindowRegionRole, 'memory'>;
}

/** A region with everything the device holds for it. */
interface Entry extends Planned {
  readonly memory: NativeMemory | undefined;
  readonly memoryOffset: number;
  /** How often the region was added: it goes with the last removal. */
  additions: number;
}

/** What a change leaves in the table and adds to it. */
interface Plan {
  readonly kept: readonly Entry[];
  readonly placed: readonly Planned[];
}

/**
 * The frontend's memory and where the window shows it. Owns the regions' fds and mappings.
 *
 * Changes are all or nothing and happen one after the other. `clear` may come at any time (the
 * frontend left): a change that was under way then fails, and leaves nothing behind.
 */
export class MemoryTable {
  #entries: readonly Entry[] = [];
  #generation = 0;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly native: Memory,
    private readonly window: WindowHost,
    private readonly onPoisoned: (region: string) => void,
  ) {}

  /** What the window shows at the moment, by rising offset. */
  get shown(): readonly ShownWindowRegion[] {
    return this.#entries.map(shownEntry);
  }

  /**
   * Replaces the table. Takes ownership of the fds. A table that is there already, as frontends
   * send it that repeat it per queue pair, stays where it is.
   */
  async set(regions: readonly FrontendRegion[]): Promise<readonly ShownRegion[]> {
    const added = await this.#change(regions, (fresh) => {
      checkOverlaps(fresh);
      const table = this.#table;
      if (isIdenticalTable(table, fresh)) {
        for (const entry of table) entry.additions = 1;
        return undefined;
      }
      const kept = this.#entries.filter((entry) => entry.role !== undefined);
      return { kept, placed: this.#place(kept, fresh) };
    });
    return packForGuest(added ?? this.#table).map(tellGuest);
  }

  /**
   * Adds a region. Takes ownership of the fd. The answer's mmap_offset is the region's absolute
   * offset in the window, as for the first region of a table.
   * @returns undefined for a region that is there already, the same bytes of the same file at the
   * same addresses: it is counted (QEMU 7.2 adds it once per queue pair)
   */
  async add(region: FrontendRegion): Promise<ShownRegion | undefined> {
    const added = await this.#change([region], (fresh) => {
      const same = this.#table.find((entry) => isIdenticalTable([entry], fresh));
      if (same) {
        same.additions++;
        return undefined;
      }
      checkOverlaps([...this.#table.map((entry) => entry.region), ...fresh]);
      return { kept: this.#entries, placed: this.#place(this.#entries, fresh) };
    });
    return added && tellAbsolute(added[0], region);
  }

  /**
   * Removes the region that has these addresses and this size.
   * @returns undefined while it stays, because it was added more often than removed
   */
  async remove(named: Omit<FrontendRegion, 'fd'>): Promise<ShownRegion | undefined> {
    let removed: Entry | undefined;
    const done = await this.#change([], () => {
      removed = this.#table.find((entry) => isSameRegion(entry.region, named));
      if (!removed) {
        const what = `${describeRegion(named)} is not in the table`;
        throw new VvuError('REGION_UNKNOWN', 'request', what);
      }
      removed.additions--;
      if (removed.additions > 0) return undefined;
      return { kept: this.#entries.filter((entry) => entry !== removed), placed: [] };
    });
    return done && tellAbsolute(removed, named);
  }

  /**
   * Shows the dirty log in the place of an earlier one. Takes ownership of the fd. The log stays
   * where it is when the table changes, and goes with the frontend.
   * @returns its absolute offset in the window
   */
  async setLog(log: FrontendLog): Promise<bigint> {
    const source = { ...log, guestAddress: 0n, userAddress: 0n };
    const added = await this.#change([source], (fresh) => {
      const inflight = this.#entries.filter(({ role }) => role === 'inflight');
      const kept = [...this.#table, ...inflight];
      const placed = fresh.map((region) => placeLog(this.window, this.#table, inflight, region));
      return { kept, placed: placed.map((one) => ({ ...one, role: 'log' as const })) };
    });
    return BigInt(added?.[0]?.placement.offset ?? 0);
  }

  /**
   * Makes a file for in-flight tracking and shows it in the place of an earlier one.
   * @param size bytes, whole pages
   */
  async createInflight(size: number): Promise<ProvidedInflight> {
    const shown = this.native.createMemfd('vvu-inflight', size);
    const fd = this.native.dupFd(shown);
    try {
      const place = await this.setInflight({ size: BigInt(size), mmapOffset: 0n, fd: shown });
      return { place, fd };
    } catch (error) {
      this.native.closeFd(fd);
      throw error;
    }
  }

  /**
   * Shows the buffer that a frontend has kept, in the place of an earlier one. Takes ownership of
   * the fd. Like the log it stays where it is when the table changes, and goes with the frontend.
   * @returns its absolute offset in the window
   */
  async setInflight(inflight: FrontendInflight): Promise<bigint> {
    const source = { ...inflight, guestAddress: 0n, userAddress: 0n };
    const added = await this.#change([source], (fresh) => {
      const kept = this.#entries.filter(({ role }) => role !== 'inflight');
      const placed = fresh.map((region) => {
        const info = this.native.fdInfo(region.fd);
        checkSealed(info);
        return placeInflight(this.window, kept, wholePages(region, info));
      });
      return { kept, placed: placed.map((one) => ({ ...one, role: 'inflight' as const })) };
    });
    return BigInt(added?.[0]?.placement.offset ?? 0);
  }

  /** Forgets everything: the window shows nothing of this frontend when this resolves. */
  clear(): Promise<void> {
    this.#generation++;
    const work = this.#tail.then(async () => {
      const old = this.#entries;
      this.#entries = [];
      try {
        await this.window.apply([]);
      } finally {
        this.#releaseAll(old);
      }
    });
    this.#tail = work.catch(() => undefined);
    return work;
  }

  get #table(): readonly Entry[] {
    return this.#entries.filter(({ role }) => role === undefined);
  }

  #place(kept: readonly Entry[], fresh: readonly CheckedRegion[]): Planned[] {
    try {
      return placeRegions(this.window, kept, fresh);
    } catch (error) {
      const inflight = kept.find(({ role }) => role === 'inflight');
      if (!(error instanceof VvuError) || error.code !== 'WINDOW_FULL' || !inflight) throw error;
      const what = `${inflight.region.length} bytes at its end are the in-flight buffer`;
      throw new VvuError(error.code, error.scope, `${error.message}, of which ${what}`);
    }
  }
  /** @returns what was added, or undefined when the plan is to change nothing */
  async #change(
    sources: readonly FrontendRegion[],
    plan: (fresh: CheckedRegion[]) => Plan | undefined,
  ): Promise<readonly Entry[] | undefined> {
    const generation = this.#generation;
    const work = this.#tail.then(async () => {
      const added: Entry[] = [];
      const unmapped = new Set(sources.map((source) => source.fd));
      try {
        this.#checkGeneration(generation);
        const fresh = sources.map((source) => checkRegion(source, this.native.fdInfo(source.fd)));
        const planned = plan(fresh);
        if (!planned) return undefined;
        for (const one of planned.placed) {
          added.push(this.#map(one));
          unmapped.delete(one.region.fd);
        }
        await this.#apply([...planned.kept, ...added], generation);
        return added;
      } catch (error) {
        this.#releaseAll(added);
        throw error;
      } finally {
        for (const fd of unmapped) this.native.closeFd(fd);
      }
    });
    this.#tail = work.catch(() => undefined);
    return work;
  }

  async #apply(entries: readonly Entry[], generation: number): Promise<void> {
    try {
      await this.window.apply(entries.map(shownEntry));
    } catch (error) {
      const detail = `the window cannot show it: ${errorMessage(error)}`;
      throw new VvuError('WINDOW_REFUSED', 'request', detail, { cause: error });
    }
    // A clear() that was called meanwhile waits behind this change and will empty the window.
    this.#checkGeneration(generation);
    const old = this.#entries;
    this.#entries = entries;
    this.#releaseAll(old.filter((entry) => !entries.includes(entry)));
  }

  #checkGeneration(generation: number): void {
    if (generation !== this.#generation) {
      throw new VvuError('CLOSED', 'peer', 'the frontend left while its memory was being mapped');
    }
  }

  #map(placed: Planned): Entry {
    const { region, placement } = placed;
    if (placement.kind === 'preset')
      return { ...placed, memory: undefined, memoryOffset: 0, additions: 1 };
    const start = region.fileOffset - (region.fileOffset % region.blockSize);
    const memoryOffset = region.fileOffset - start;
    const what = placed.role === 'log' ? describeLog(region.source) : describeRegion(region.source);
    try {
      const memory: NativeMemory = this.native.map(region.fd, {
        offset: start,
        length: memoryOffset + region.length,
        writable: true,
        // Told later than it happened: by then the memory may have gone with its frontend.
        onPoisoned: () => {
          if (!memory.released) this.onPoisoned(what);
        },
      });
      return { ...placed, memory, memoryOffset, additions: 1 };
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      throw new VvuError('REGION_UNMAPPABLE', 'request', `${what}: ${detail}`, { cause: error });
    }
  }

  #releaseAll(entries: readonly Entry[]): void {
    for (const { region, memory } of entries) {
      memory?.release();
      this.native.closeFd(region.fd);
    }
  }
}

/** Whether a table consists of just these regions, in any order. */
function isIdenticalTable(table: readonly Entry[], fresh: readonly CheckedRegion[]): boolean {
  return (
    table.length === fresh.length &&
    fresh.every((one) => table.some(({ region }) => isIdenticalRegion(region, one)))
  );
}

function shownEntry(entry: Entry): ShownWindowRegion {
  const { region, placement, memory, memoryOffset } = entry;
  const { fd, fileOffset, length } = region;
  const role: WindowRegionRole = entry.role ?? 'memory';
  const guestAddress = role === 'memory' ? region.source.guestAddress : undefined;
  const shown = { role, guestAddress, fd, fileOffset, length, memory, memoryOffset };
  return { region: shown, placement };
}

function tellGuest(packed: { region: CheckedRegion; mmapOffset: number }): ShownRegion {
  return { ...packed.region.source, mmapOffset: BigInt(packed.mmapOffset) };
}

function tellAbsolute(
  entry: PlacedRegion<CheckedRegion> | undefined,
  source: Omit<FrontendRegion, 'fd'>,
): ShownRegion {
  const { guestAddress, size, userAddress } = source;
  const mmapOffset = BigInt(entry?.placement.offset ?? 0);
  return { guestAddress, size, userAddress, mmapOffset };
}
