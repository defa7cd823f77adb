/** The frontend's memory as the backend addresses it: guest physical and user addresses. */
import { IntervalTable } from 'vfio-ts-bindings';
import { VvuError } from '../errors.js';
import type { MemoryRegion } from '../vhost-user/index.js';
import type { GuestMemory, Iova } from '../virtio/ports.js';
import type { DirtyLog } from './dirty-log.js';
import type { WindowAccess } from './pci-access.js';

interface Region {
  readonly guestAddress: Iova;
  readonly userAddress: number;
  readonly size: number;
  readonly end: Iova;
  /** What to add to a guest address to get a window offset. */
  readonly delta: number;
}

/** Most regions that a frontend may have; QEMU asks, and sends no more. */
export const MAX_MEMORY_SLOTS = 256;

function invalid(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

function narrow(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw invalid('REGION_RANGE', `${what} 0x${value.toString(16)} is above 2^53`);
  }
  return Number(value);
}

/**
 * Guest memory over the window, addressed by the frontend's guest physical addresses. Changes are
 * all or nothing; an access outside of the table throws `DMA_UNMAPPED`.
 */
export class FrontendMemory implements GuestMemory {
  /** Where stores are marked, while the frontend wants that (VHOST_F_LOG_ALL). */
  log: DirtyLog | undefined;
  private table = new IntervalTable<Region>();
  private last: Region | undefined;

  constructor(private readonly window: WindowAccess) {}

  get regionCount(): number {
    return this.table.size;
  }

  /**
   * SET_MEM_TABLE: each region takes mmap_offset + size bytes of the window, one after the other,
   * and starts mmap_offset bytes into its part.
   */
  setTable(regions: readonly MemoryRegion[]): void {
    const table = new IntervalTable<Region>();
    let sum = 0;
    for (const region of regions) {
      const offset = sum + narrow(region.mmapOffset, 'mmap offset');
      this.insert(table, region, offset);
      sum = offset + narrow(region.size, 'size');
    }
    this.replace(table);
  }

  /** ADD_MEM_REG: mmap_offset is the place in the window. */
  add(region: MemoryRegion): void {
    if (this.table.size >= MAX_MEMORY_SLOTS) {
      throw invalid('REGION_SLOTS', `more than ${MAX_MEMORY_SLOTS} memory regions`);
    }
    this.insert(this.table, region, narrow(region.mmapOffset, 'mmap offset'));
  }

  /** REM_MEM_REG: guest address, user address and size name the region. */
  remove(region: MemoryRegion): void {
    const start = narrow(region.guestAddress, 'guest address');
    const found = this.table.find(start)?.value;
    if (
      found?.guestAddress !== start ||
      BigInt(found.userAddress) !== region.userAddress ||
      BigInt(found.size) !== region.size
    ) {
      throw invalid('REGION_UNKNOWN', `no region at 0x${start.toString(16)}`);
    }
    this.table.remove(start);
    this.last = undefined;
  }

  clear(): void {
    this.replace(new IntervalTable());
  }

  /**
   * The guest address of [userAddress, + length), which must lie in one region.
   * @throws VvuError `RING_ADDRESS`, scope `request`
   */
  translateUser(userAddress: bigint, length: number): Iova {
    const address = narrow(userAddress, 'user address');
    for (const { value: region } of this.table) {
      const offset = address - region.userAddress;
      if (offset >= 0 && offset + length <= region.size) return region.guestAddress + offset;
    }
    throw invalid('RING_ADDRESS', `user address 0x${userAddress.toString(16)} is in no region`);
  }

  /** Whether [iova, iova + length) can be reached without messages to the device. */
  mapped(iova: Iova, length: number): boolean {
    const region = this.table.find(iova)?.value;
    if (region === undefined || iova + length > region.end) return false;
    return this.window.mapped(iova + region.delta, length);
  }

  read(iova: Iova, length: number): Buffer {
    this.at(iova, Math.min(length, 1));
    // A length that no table can hold must not become an allocation.
    if (length > this.window.size) throw unmapped(iova, length);
    const bytes = Buffer.allocUnsafe(length);
    this.readInto(iova, bytes);
    return bytes;
  }

  readInto(iova: Iova, target: Uint8Array): void {
    const region = this.find(iova);
    if (iova + target.length <= region.end) {
      this.window.memory.readInto(iova + region.delta, target);
      return;
    }
    this.pieces(iova, target.length, (offset, from, to) =>
      this.window.memory.readInto(offset, target.subarray(from, to)),
    );
  }

  write(iova: Iova, bytes: Uint8Array): void {
    const region = this.find(iova);
    if (iova + bytes.length <= region.end) {
      this.window.memory.write(iova + region.delta, bytes);
    } else {
      this.pieces(iova, bytes.length, () => undefined);
      this.pieces(iova, bytes.length, (offset, from, to) =>
        this.window.memory.write(offset, bytes.subarray(from, to)),
      );
    }
    this.log?.mark(iova, bytes.length);
  }

  loadU16(iova: Iova): number {
    return this.window.memory.loadU16(this.at(iova, 2));
  }

  storeU16(iova: Iova, value: number): void {
    this.window.memory.storeU16(this.at(iova, 2), value);
    this.log?.mark(iova, 2);
  }

  loadU32(iova: Iova): number {
    return this.window.memory.loadU32(this.at(iova, 4));
  }

  storeU32(iova: Iova, value: number): void {
    this.window.memory.storeU32(this.at(iova, 4), value);
    this.log?.mark(iova, 4);
  }

  fence(): void {
    this.window.memory.fence();
  }

  private find(iova: Iova): Region {
    const { last } = this;
    if (last !== undefined && iova >= last.guestAddress && iova < last.end) return last;
    const found = this.table.find(iova)?.value;
    if (found === undefined) throw unmapped(iova, 1);
    this.last = found;
    return found;
  }

  private at(iova: Iova, length: number): number {
    const region = this.find(iova);
    if (iova + length > region.end) throw unmapped(iova, length);
    return iova + region.delta;
  }

  /** Regions that touch in guest addresses need not touch in the window. */
  private pieces(
    iova: Iova,
    length: number,
    visit: (offset: number, from: number, to: number) => void,
  ): void {
    for (let done = 0; done < length;) {
      const region = this.find(iova + done);
      const count = Math.min(length - done, region.end - iova - done);
      visit(iova + done + region.delta, done, done + count);
      done += count;
    }
  }

  private insert(table: IntervalTable<Region>, region: MemoryRegion, offset: number): void {
    const guestAddress = narrow(region.guestAddress, 'guest address');
    const userAddress = narrow(region.userAddress, 'user address');
    const size = narrow(region.size, 'size');
    const end = narrow(region.guestAddress + region.size, 'end of region');
    narrow(region.userAddress + region.size, 'end of region');
    if (!(size > 0 && offset + size <= this.window.size)) {
      throw invalid('REGION_WINDOW', `a region at ${offset} + ${size} is not in the window`);
    }
    const delta = offset - guestAddress;
    if (!table.insert(guestAddress, size, { guestAddress, userAddress, size, end, delta })) {
      throw invalid('REGION_OVERLAP', `region at 0x${guestAddress.toString(16)} overlaps another`);
    }
  }

  private replace(table: IntervalTable<Region>): void {
    this.table = table;
    this.last = undefined;
  }
}

function unmapped(iova: Iova, length: number): VvuError {
  return new VvuError(
    'DMA_UNMAPPED',
    'device',
    `guest address 0x${iova.toString(16)} + ${length} is in no memory region`,
  );
}
