/** The frontend's stand-in for a guest: RAM in a file that is shared with the backend. */
import { VvuError } from '../errors.js';
import type { Native, NativeMemory } from '../native.js';
import type { MemoryRegion } from '../vhost-user/index.js';
import { MappedMemory } from '../virtio/mapped-memory.js';
import type { GuestMemory, Iova } from '../virtio/ports.js';

const PAGE = 4096;
/** Guest RAM above the 32-bit hole starts at 4 GiB, as on a PC. */
const HIGH_MEMORY = 2 ** 32;
/** User addresses are those of an imaginary VMM: opaque, and unlike guest addresses. */
const USER_BASE = 0x7f00_0000_0000n;

export interface RamOptions {
  /** A file to use as RAM, made if absent; otherwise it is a memfd. */
  readonly path?: string;
  /** Two regions, below and above the 4 GiB hole, as a guest with much RAM has. Default 1. */
  readonly regions?: 1 | 2;
}

export class FrontendRam {
  readonly regions: readonly MemoryRegion[];
  /** By guest address. */
  readonly memory: GuestMemory;
  /** The file, owned by this object. */
  readonly fd: number;
  private readonly mapping: NativeMemory;
  private readonly mapped: MappedMemory;
  private readonly cursors: { next: Iova; readonly end: Iova }[];
  private closed = false;

  /** @param size bytes, rounded up to whole pages per region */
  constructor(
    private readonly native: Native,
    size: number,
    options: RamOptions = {},
  ) {
    const count = options.regions ?? 1;
    const part = Math.ceil(size / count / PAGE) * PAGE;
    const total = part * count;
    this.fd =
      options.path === undefined
        ? native.createMemfd('vvu-frontend', total)
        : native.openFile(options.path, { writable: true, create: total });
    try {
      this.mapping = native.map(this.fd, { offset: 0, length: total, writable: true });
    } catch (error) {
      native.closeFd(this.fd);
      throw error;
    }
    this.mapped = new MappedMemory(native);
    this.memory = this.mapped;
    const starts = Array.from({ length: count }, (_, index) => index * HIGH_MEMORY);
    this.cursors = starts.map((start) => ({ next: start, end: start + part }));
    this.regions = starts.map((start, index) => {
      const offset = index * part;
      this.mapped.insert(start, part, {
        memory: this.mapping,
        offset,
        readable: true,
        writable: true,
      });
      return {
        guestAddress: BigInt(start),
        size: BigInt(part),
        userAddress: USER_BASE + BigInt(offset),
        mmapOffset: BigInt(offset),
      };
    });
  }

  /** Guest address of fresh memory that lies in one region; never freed. */
  allocate(bytes: number, align: number): Iova {
    // The last region first, so that a second one is really used.
    for (const cursor of [...this.cursors].reverse()) {
      const start = Math.ceil(cursor.next / align) * align;
      if (start + bytes > cursor.end) continue;
      cursor.next = start + bytes;
      return start;
    }
    throw new VvuError('RAM_FULL', 'setup', `no ${bytes} bytes left in the frontend's RAM`);
  }

  /** The user address of a guest address, as vring addresses need it. */
  userAddress(address: Iova): bigint {
    const at = BigInt(address);
    for (const { guestAddress, size, userAddress } of this.regions) {
      if (at >= guestAddress && at < guestAddress + size) return userAddress + at - guestAddress;
    }
    throw new VvuError('RAM_ADDRESS', 'bug', `0x${address.toString(16)} is no RAM`);
  }

  /** Unmaps and closes. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.mapped.clear();
    this.mapping.release();
    this.native.closeFd(this.fd);
  }
}
