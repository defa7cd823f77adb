import type { ShownWindowRegion, WindowHost } from '../../device/ports.js';
import { WindowBlock } from '../../device/window-block.js';
import type { WindowPort } from './options.js';

/** The window of a hypervisor in this process: mapped where it can, trapped otherwise. */
export class PortWindow implements WindowHost {
  readonly size: number;
  readonly preset = undefined;
  readonly dynamic: boolean;
  readonly block: WindowBlock;
  #mapped: readonly ShownWindowRegion[] = [];

  constructor(
    private readonly port: WindowPort,
    private readonly failed: (error: unknown) => void,
  ) {
    this.size = port.size;
    this.dynamic = port.map !== undefined && port.unmap !== undefined;
    this.block = new WindowBlock(port.size);
  }

  async apply(regions: readonly ShownWindowRegion[]): Promise<void> {
    if (regions.length === 0) this.block.show([]);
    const before = this.#mapped;
    const wanted = regions.filter(({ placement }) => placement.kind === 'dynamic');
    try {
      await this.#change(wanted);
    } catch (error) {
      // What cannot be put back either is less telling than what went wrong first.
      await this.#change(before).catch(this.failed);
      throw error;
    }
    // Regions that are mapped are served too: a hypervisor may trap at any time.
    this.block.show(
      regions.flatMap(({ region: { memory, memoryOffset, length }, placement: { offset } }) =>
        memory ? [{ offset, length, memory, memoryOffset }] : [],
      ),
    );
  }

  /** Remembers each step, so that what was half done can be taken back. */
  async #change(wanted: readonly ShownWindowRegion[]): Promise<void> {
    for (const old of this.#mapped.filter((one) => !wanted.some((other) => same(one, other)))) {
      await this.port.unmap?.(old.placement.offset, old.region.length);
      this.#mapped = this.#mapped.filter((one) => one !== old);
    }
    for (const fresh of wanted) {
      if (this.#mapped.some((one) => same(one, fresh))) continue;
      const { fd, fileOffset, length } = fresh.region;
      await this.port.map?.(fd, fileOffset, fresh.placement.offset, length);
      this.#mapped = [...this.#mapped, fresh];
    }
  }
}

function same(a: ShownWindowRegion, b: ShownWindowRegion): boolean {
  return a.region.memory === b.region.memory && a.placement.offset === b.placement.offset;
}
