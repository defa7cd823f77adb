import { VvuError } from '../errors.js';
import type { FrontendRequest, MemoryRegion } from '../vhost-user/index.js';
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
   * @returns what the guest is told, undefined if for the guest nothing changes
   * @throws VvuError of scope `request`; the old table stays
   */
  async apply(request: MemoryRequest, fds: ReceivedFds): Promise<GuestMemoryValue | undefined> {
    switch (request.name) {
      case 'SET_MEM_TABLE': {
        const owned = fds.takeAll();
        const sources = request.value.map((region, index) => withFd(region, owned[index]));
        const shown = await this.backend.setMemoryTable(sources);
        this.#regions = request.value;
        return shown;
      }
      case 'ADD_MEM_REG': {
        this.#checkSlots(request.value);
        const [fd] = fds.takeAll();
        const shown = await this.backend.addMemoryRegion(withFd(request.value, fd));
        if (shown) this.#regions = [...this.#regions, request.value];
        return shown;
      }
      case 'REM_MEM_REG': {
        // An fd that comes with it stays in `fds`: "the back-end MUST close it without using it".
        const shown = await this.backend.removeMemoryRegion(request.value);
        if (shown) {
          this.#regions = this.#regions.filter((region) => !sameRegion(region, request.value));
        }
        return shown;
      }
    }
  }

  /** A region that is there takes no further slot; the device compares the files. */
  #checkSlots(added: MemoryRegion): void {
    const there = this.#regions.some((region) => sameRegion(region, added));
    if (!there && this.#regions.length >= this.maxSlots) {
      throw new VvuError(
        'TOO_MANY_REGIONS',
        'request',
        `all ${this.maxSlots} memory slots are in use`,
      );
    }
  }
}

/** The policy has counted the fds: a region without one cannot come here. */
function withFd(region: MemoryRegion, fd: number | undefined): FrontendRegion {
  if (fd === undefined) {
    throw new VvuError('BAD_FDS', 'bug', 'a memory region without its fd');
  }
  return { ...region, fd };
}
