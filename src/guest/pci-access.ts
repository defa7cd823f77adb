/**
 * How a guest-side driver reaches its PCI function. Everything is synchronous, as it is for a
 * driver in a guest: over vfio-user a call blocks for one round trip.
 */
import type { GuestMemory, Iova } from '../virtio/ports.js';

/** DMA memory of the driver: visible to the device at `iova`. */
export interface DmaBuffer {
  readonly iova: Iova;
  readonly size: number;
  /** The driver's own view, addressed by IOVA like the device's. */
  readonly memory: GuestMemory;
  free(): void;
}

/** The window BAR as the driver sees it, addressed from the window's first byte. */
export interface WindowAccess {
  readonly size: number;
  /** Addresses are offsets in the window. `mapped` tells loads and stores from trapped messages. */
  readonly memory: GuestMemory;
  mapped(offset: number, length: number): boolean;
  /**
   * Whether what is shown later than the window was opened, such as a frontend's dirty log, can be
   * had by `file`. False where all but the preset file stays trapped.
   */
  readonly remaps: boolean;
  /**
   * Sets bits of a byte and returns what it was before: one atomic step where the window is mapped,
   * a load and a store where it is trapped.
   */
  orByte(offset: number, bits: number): number;
  /**
   * The file in which another process finds [offset, offset + length) of the window: the BAR's
   * sysfs resource file, or over vfio-user the preset file or the one that `region_remap` brought.
   * Undefined where no single file shows the whole range (a trapped part).
   */
  file(offset: number, length: number): WindowFile | undefined;
}

/** A range of the window for others to map. */
export interface WindowFile {
  /**
   * For a plain shared `mmap`; owned by the access object, and open as long as the range is mapped.
   * Whoever keeps it longer duplicates it (sending it in a message does).
   */
  readonly fd: number;
  /** Where the range starts in the file, in bytes. */
  readonly offset: number;
}

export interface InterruptHandle {
  /** eventfd that the vector signals; owned by the access object. */
  readonly eventfd: number;
}

/** INTx as an eventfd. The kernel masks the function's interrupt before it signals. */
export interface IntxInterrupt extends InterruptHandle {
  /** Lets the next one through; to be called when the ISR register has been read. */
  unmask(): void;
  mask(): void;
}

/** Something that goes on until it is closed; `close` is idempotent. */
export interface Binding {
  close(): void;
}

export interface PciAccess {
  configRead(offset: number, length: number): Buffer;
  configWrite(offset: number, bytes: Uint8Array): void;
  /** Register access of 1, 2, 4 or 8 bytes, naturally aligned. */
  barRead(bar: number, offset: number, length: number): Buffer;
  barWrite(bar: number, offset: number, bytes: Uint8Array): void;
  barSize(bar: number): number;
  /**
   * Until closed, each signal of `eventfd` (which stays the caller's) makes the store that
   * `barWrite` would make. Outside of JavaScript where there is a way: a relay to the register's
   * ioeventfd, or a native thread's store to the mapped BAR. Signals that come in quick succession
   * may make one store, as with any eventfd. A device that is gone ends it silently.
   */
  storeOnSignal(eventfd: number, bar: number, offset: number, bytes: Uint8Array): Binding;
  allocateDma(size: number): DmaBuffer;
  /** The shared-memory window: `length` bytes of `bar` from `offset`. */
  openWindow(bar: number, offset: number, length: number): WindowAccess;
  /** Number of MSI-X vectors, 0 where the driver has to poll. */
  readonly vectorCount: number;
  enableVector(vector: number): InterruptHandle;
  disableVectors(): void;
  /** For a driver that has no vectors; undefined where it has to poll. */
  readonly intx?: IntxInterrupt | undefined;
  /** Function-level reset. */
  reset(): void;
  close(): void;
}
