import type { Clock } from '../../clock.js';
import type { ShownWindowRegion, WindowHost } from '../../device/ports.js';
import { WindowBlock } from '../../device/window-block.js';
import type { Native } from '../../native.js';
import { BoundedCalls } from './bounded-calls.js';
import type { WindowPort } from './options.js';

const DEFAULT_TIMEOUT_MS = 5000;

/** The window of a hypervisor in this process: mapped where it can, trapped otherwise. */
export class PortWindow implements WindowHost {
  readonly size: number;
  readonly preset = undefined;
  readonly dynamic: boolean;
  readonly block: WindowBlock;
  readonly #calls: BoundedCalls;
  /** What the hypervisor has mapped, as far as is known. */
  #mapped: readonly ShownWindowRegion[] = [];
  /** Of that, what the table in force wants; the rest could not be unmapped yet. */
  #shown: readonly ShownWindowRegion[] = [];
  #tail: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly port: WindowPort,
    private readonly native: Pick<Native, 'dupFd' | 'closeFd'>,
    failed: (error: unknown) => void,
    clock: Clock,
  ) {
    this.size = port.size;
    this.dynamic = port.map !== undefined && port.unmap !== undefined;
    this.block = new WindowBlock(port.size);
    this.#calls = new BoundedCalls(port.timeoutMs ?? DEFAULT_TIMEOUT_MS, clock, failed);
  }

  async apply(regions: readonly ShownWindowRegion[]): Promise<void> {
    if (regions.length === 0) {
      this.block.show([]);
      this.#shown = [];
    }
    await this.#alone(() => this.#apply(regions));
  }

  async #apply(regions: readonly ShownWindowRegion[]): Promise<void> {
    const wanted = regions.filter(({ placement }) => placement.kind === 'dynamic');
    try {
      await this.#change(wanted);
    } catch (error) {
      // What cannot be put back either is reported, and less telling than what went wrong first.
      if (regions.length > 0) await this.#change(this.#shown).catch(() => undefined);
      throw error;
    }
    this.#shown = wanted;
    // Regions that are mapped are served too: a hypervisor may trap at any time.
    this.block.show(
      regions.flatMap(({ region: { memory, memoryOffset, length }, placement: { offset } }) =>
        memory ? [{ offset, length, memory, memoryOffset }] : [],
      ),
    );
  }

  /** A change at a time: one that comes from a late call must not meet one of the frontend's. */
  #alone(work: () => Promise<void>): Promise<void> {
    const done = this.#tail.then(work);
    this.#tail = done.catch(() => undefined);
    return done;
  }

  /**
   * Remembers each step, so that what was half done can be taken back. What cannot be unmapped is
   * tried again with the next change: nothing is ever mapped over it.
   */
  async #change(wanted: readonly ShownWindowRegion[]): Promise<void> {
    const gone = this.#mapped.filter((one) => !wanted.some((other) => same(one, other)));
    let failure: { readonly error: unknown } | undefined;
    for (const old of gone) {
      await this.#unmap(old).catch((error: unknown) => (failure ??= { error }));
    }
    if (failure) throw failure.error;
    for (const fresh of wanted) {
      if (!this.#mapped.some((one) => same(one, fresh))) await this.#map(fresh);
    }
  }

  async #unmap(old: ShownWindowRegion): Promise<void> {
    const { offset } = old.placement;
    const { length } = old.region;
    const forget = (): void => {
      this.#mapped = this.#mapped.filter((one) => one !== old);
    };
    await this.#calls.run(
      `unmap of ${length} bytes at ${offset}`,
      () => this.port.unmap?.(offset, length),
      forget,
    );
    forget();
  }

  async #map(fresh: ShownWindowRegion): Promise<void> {
    const { fileOffset, length } = fresh.region;
    const { offset } = fresh.placement;
    // A duplicate: a call that was given up may use its fd long after the region's was closed.
    const fd = this.native.dupFd(fresh.region.fd);
    const call = async (): Promise<void> => {
      try {
        await this.port.map?.(fd, fileOffset, offset, length);
      } finally {
        this.native.closeFd(fd);
      }
    };
    const what = `map of ${length} bytes at ${offset}`;
    const late = (): void => {
      // Nobody waits for this region any more.
      this.#mapped = [...this.#mapped, fresh];
      this.#alone(() => this.#change(this.#shown)).catch(() => undefined);
    };
    await this.#calls.run(what, call, late);
    this.#mapped = [...this.#mapped, fresh];
  }
}

function same(a: ShownWindowRegion, b: ShownWindowRegion): boolean {
  return a.region.memory === b.region.memory && a.placement.offset === b.placement.offset;
}
