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
}

export interface InterruptHandle {
  /** eventfd that the vector signals; owned by the access object. */
  readonly eventfd: number;
}

export interface PciAccess {
  configRead(offset: number, length: number): Buffer;
  configWrite(offset: number, bytes: Uint8Array): void;
  /** Register access of 1, 2, 4 or 8 bytes, naturally aligned. */
  barRead(bar: number, offset: number, length: number): Buffer;
  barWrite(bar: number, offset: number, bytes: Uint8Array): void;
  barSize(bar: number): number;
  allocateDma(size: number): DmaBuffer;
  /** The shared-memory window: `length` bytes of `bar` from `offset`. */
  openWindow(bar: number, offset: number, length: number): WindowAccess;
  /** Number of MSI-X vectors, 0 where the driver has to poll. */
  readonly vectorCount: number;
  enableVector(vector: number): InterruptHandle;
  disableVectors(): void;
  /** Function-level reset. */
  reset(): void;
  close(): void;
}
