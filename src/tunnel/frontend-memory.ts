import { VvuError } from '../errors.js';
import { hex, type FrontendRequest, type MemoryRegion } from '../vhost-user/index.js';
import type { FrontendRegion, ShownRegion, TunnelBackend } from './ports.js';
import type { ReceivedFds } from './received-fds.js';

/** Requests that change the memory table. */
export type MemoryRequest = Extract<
  FrontendRequest,
  { name: 'SET_MEM_TABLE' | 'ADD_MEM_REG' | 'REM_MEM_REG' }
>;

/** What the guest is told in the frontend's place. */
export type GuestMemoryValue = readonly ShownRegion[] | ShownRegion;

function sameRegion(a: MemoryRegion, b: MemoryRegion): boolean {
  return a.guestAddress === b.guestAddress && a.size === b.size && a.userAddress === b.userAddress;
}

/** The frontend's memory table as it last succeeded, for checks against it. */
export class FrontendMemory {
  #regions: readonly MemoryRegion[] = [];

  constructor(
    private readonly backend: TunnelBackend,
    private readonly maxSlots: number,
  ) {}

  get empty(): boolean {
    return this.#regions.length === 0;
  }

  /** Whether a user address lies in some region. */
  contains(userAddress: bigint): boolean {
    return this.#regions.some(
      ({ userAddress: start, size }) => userAddress >= start && userAddress - start < size,
    );
  }

  /**
   * Has the device change its table. The fds pass to the device, or stay in `fds` to be closed.
   * @throws VvuError of scope `request`; the old table stays
   */
  async apply(request: MemoryRequest, fds: ReceivedFds): Promise<GuestMemoryValue> {
    switch (request.name) {
      case 'SET_MEM_TABLE': {
        const sources = withFds(request.value, fds);
        const shown = await this.backend.setMemoryTable(sources);
        this.#regions = request.value;
        return shown;
      }
      case 'ADD_MEM_REG': {
        this.#checkSlots();
        const [source] = withFds([request.value], fds);
        if (source === undefined) {
          throw new VvuError('BAD_FDS', 'request', 'ADD_MEM_REG without a region');
        }
        const shown = await this.backend.addMemoryRegion(source);
        this.#regions = [...this.#regions, request.value];
        return shown;
      }
      case 'REM_MEM_REG': {
        // "If a file descriptor is passed, the back-end MUST close it without using it otherwise."
        fds.close();
        const shown = await this.backend.removeMemoryRegion(request.value);
        this.#regions = this.#regions.filter((region) => !sameRegion(region, request.value));
        return shown;
      }
    }
  }

  #checkSlots(): void {
    if (this.#regions.length >= this.maxSlots) {
      throw new VvuError(
        'TOO_MANY_REGIONS',
        'request',
        `all ${this.maxSlots} memory slots are in use`,
      );
    }
  }
}

function withFds(regions: readonly MemoryRegion[], fds: ReceivedFds): FrontendRegion[] {
  if (fds.count !== regions.length) {
    throw new VvuError(
      'BAD_FDS',
      'request',
      `${fds.count} fds for ${regions.length} regions from ` + hex(regions[0]?.guestAddress ?? 0n),
    );
  }
  const owned = fds.takeAll();
  return regions.flatMap((region, index) => {
    const fd = owned[index];
    return fd === undefined ? [] : [{ ...region, fd }];
  });
}
