import type { RegionMmap, RemapOp, VfioUserConnection } from 'vfio-ts-bindings';
import type { ShownWindowRegion, WindowHost } from '../../device/ports.js';
import { WindowBlock } from '../../device/window-block.js';
import type { WindowSlice } from '../../device/window-block.js';
import type { NativeFastRegions, NativeMemory } from '../../native.js';

/** Where the window is: from `offset` of a vfio-user region. */
export interface WindowPlace {
  readonly region: number;
  readonly offset: number;
  readonly size: number;
}

/** The file whose bytes [0, size) are the window's mapped area. */
export interface PresetFile {
  /** Owned by whoever made it, valid as long as the window. */
  readonly fd: number;
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: number;
  readonly memory: NativeMemory;
}

/**
 * The window over vfio-user: the preset file is mapped by the client itself, other regions are
 * trapped and served in C++, or mapped at run time by clients that negotiated `region_remap`.
 */
export class VfioUserWindow implements WindowHost {
  readonly size: number;
  readonly preset: PresetFile | undefined;
  /** The window for accesses that C++ does not serve. */
  readonly block: WindowBlock;
  #connection: VfioUserConnection | undefined;
  #trapped: readonly WindowSlice[] = [];
  #mapped: readonly ShownWindowRegion[] = [];

  constructor(
    private readonly fast: NativeFastRegions,
    private readonly place: WindowPlace,
    preset: PresetFile | undefined,
  ) {
    this.size = place.size;
    this.preset = preset;
    this.block = new WindowBlock(place.size);
    // A client may send accesses to mappable areas as messages too.
    if (preset) this.#serve(presetSlice(preset));
    this.block.show(this.#slices());
  }

  get dynamic(): boolean {
    return this.#connection?.clientFeatures.regionRemap ?? false;
  }

  /** What GET_REGION_INFO says about mapping this region; undefined when all of it is trapped. */
  get mmap(): RegionMmap | undefined {
    if (!this.preset) return undefined;
    const { fd, size } = this.preset;
    // Area offsets count from the region's start, the file's from the window's: hence negative.
    return { fd, fileOffset: -this.place.offset, areas: [{ offset: this.place.offset, size }] };
  }

  connected(connection: VfioUserConnection): void {
    this.#connection = connection;
  }

  /** The client left, and its mappings with it. */
  disconnected(): void {
    this.#connection = undefined;
    this.#mapped = [];
  }

  async apply(regions: readonly ShownWindowRegion[]): Promise<void> {
    if (regions.length === 0) this.#show([]);
    await this.#remap(regions.filter(({ placement }) => placement.kind === 'dynamic'));
    // Regions that the client mapped are served too: it may trap at any time.
    this.#show(regions.flatMap(slice));
  }

  #show(slices: readonly WindowSlice[]): void {
    for (const old of this.#trapped) {
      this.fast.unmapWindow(this.place.region, this.place.offset + old.offset);
    }
    this.#trapped = slices;
    slices.forEach((one) => this.#serve(one));
    this.block.show(this.#slices());
  }

  async #remap(mapped: readonly ShownWindowRegion[]): Promise<void> {
    const connection = this.#connection;
    const before = this.#mapped;
    const gone = before.filter((one) => !mapped.some((other) => same(one, other)));
    const fresh = mapped.filter((one) => !before.some((other) => same(one, other)));
    this.#mapped = mapped;
    if (!connection || connection.closed || gone.length + fresh.length === 0) return;
    const unmaps = gone.length === before.length ? hull(gone) : gone.map(range);
    try {
      await connection.remapRegion(this.place.region, [
        ...unmaps.map((one) => this.#unmapOp(one)),
        ...fresh.map((one) => this.#mapOp(one)),
      ]);
    } catch (error) {
      // A client that is gone shows nothing; one that refuses still shows what it did before.
      if (connection !== this.#connection) return;
      this.#mapped = before;
      throw error;
    }
  }

  #mapOp({ region, placement }: ShownWindowRegion): RemapOp {
    return {
      kind: 'map',
      offset: this.place.offset + placement.offset,
      length: region.length,
      fd: region.fd,
      fileOffset: region.fileOffset,
      readable: true,
      writable: true,
    };
  }

  #unmapOp({ offset, length }: Range): RemapOp {
    return { kind: 'unmap', offset: this.place.offset + offset, length };
  }

  #serve({ offset, length, memory, memoryOffset }: WindowSlice): void {
    this.fast.mapWindow(
      this.place.region,
      this.place.offset + offset,
      length,
      memory,
      memoryOffset,
    );
  }

  #slices(): readonly WindowSlice[] {
    return this.preset ? [presetSlice(this.preset), ...this.#trapped] : this.#trapped;
  }
}

function presetSlice({ size, memory }: PresetFile): WindowSlice {
  return { offset: 0, length: size, memory, memoryOffset: 0 };
}

function slice({ region, placement }: ShownWindowRegion): WindowSlice[] {
  const { memory, memoryOffset, length } = region;
  return memory ? [{ offset: placement.offset, length, memory, memoryOffset }] : [];
}

/** Bytes [offset, offset + length) of the window. */
interface Range {
  readonly offset: number;
  readonly length: number;
}

function range({ region, placement }: ShownWindowRegion): Range {
  return { offset: placement.offset, length: region.length };
}

/** One range around all: taking everything back is one operation, which every client accepts. */
function hull(shown: readonly ShownWindowRegion[]): Range[] {
  const ranges = shown.map(range);
  if (ranges.length === 0) return [];
  const offset = Math.min(...ranges.map((one) => one.offset));
  const end = Math.max(...ranges.map((one) => one.offset + one.length));
  return [{ offset, length: end - offset }];
}

function same(a: ShownWindowRegion, b: ShownWindowRegion): boolean {
  return a.region.memory === b.region.memory && a.placement.offset === b.placement.offset;
}
