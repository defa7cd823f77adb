/**
 * What the virtio-vhost-user device needs besides being a virtio device: its additional resources
 * (doorbells, kick notifications, window), which a host shows to the guest in its own way.
 */
import type { NativeMemory } from '../native.js';
import type { SharedMemory } from '../tunnel/ports.js';
import type { Binding } from '../virtio/ports.js';

export type { Binding };
export { VIRTIO_MSI_NO_VECTOR as NO_VECTOR } from '../virtio/constants.js';

/** Guest -> frontend: doorbell registers backed by the frontend's call, err and log eventfds. */
export interface DoorbellHost {
  /**
   * Connects doorbell `index` to an eventfd, so that a guest write signals it without entering
   * JavaScript where the host can. The fd stays the caller's and outlives the binding.
   */
  bind(index: number, eventfd: number): Binding;
}

/** Frontend -> guest: kick eventfds that fire interrupt vectors. */
export interface KickHost {
  /** MSI-X vectors that the guest may assign, 0 without MSI-X. */
  readonly vectorCount: number;
  /**
   * Each signal of `eventfd` fires `vector`, or with `NO_VECTOR` the INTx fallback. Signals that
   * come while the vector has no taker stay in the eventfd. The fd stays the caller's.
   */
  bind(eventfd: number, vector: number): Binding;
}

/** What a region of the window is: of the memory table, or one of the two beside it. */
export type WindowRegionRole = 'memory' | 'log' | 'inflight';

/** A part of a frontend's memory as the device holds it. */
export interface WindowRegion {
  readonly role: WindowRegionRole;
  /** Where the frontend's guest has it, for logs; undefined for the log and the in-flight area. */
  readonly guestAddress: bigint | undefined;
  /** The frontend's file; owned by the device, valid while the region is shown. */
  readonly fd: number;
  /** First byte in the file (the region's mmap_offset as the frontend sent it). */
  readonly fileOffset: number;
  readonly length: number;
  /**
   * The device's own mapping for trapped access, absent where the preset file shows the region.
   * The region starts at `memoryOffset` of it, since mappings start at a page of the file.
   */
  readonly memory: NativeMemory | undefined;
  readonly memoryOffset: number;
}

export type WindowKind = 'dynamic' | 'preset' | 'trapped';

/** Where a region is shown. */
export interface WindowPlacement {
  /** Byte offset in the window. */
  readonly offset: number;
  readonly kind: WindowKind;
}

export interface ShownWindowRegion {
  readonly region: WindowRegion;
  readonly placement: WindowPlacement;
}

/** The shared-memory window in which a guest sees the frontend's memory. */
export interface WindowHost {
  /** Bytes of the window, a power of two. */
  readonly size: number;
  /**
   * The preset file behind [0, preset.size), if there is one: a region of the same file is visible
   * at its file offset without any action.
   */
  readonly preset:
    { readonly dev: bigint; readonly ino: bigint; readonly size: number } | undefined;
  /** Whether regions can be mapped into the running guest at page-aligned offsets, now. */
  readonly dynamic: boolean;
  /**
   * Makes the window show exactly these regions, all or nothing; what was shown before and is not
   * in the list disappears. Resolves when the guest sees the new state. An empty list ends what
   * this process serves before the call returns, whatever becomes of the rest.
   */
  apply(regions: readonly ShownWindowRegion[]): Promise<void>;
}

/** The files behind the guest's memory, which a frontend may map (SHMEM). */
export interface GuestMemoryFiles {
  /**
   * Finds [address, address + length), addressed as in virtqueues.
   * @returns a new fd of the file, the caller's, and the range's offset in it
   * @throws VvuError of scope `request` for what is not in one file, or is not page-aligned there
   */
  share(address: bigint, length: bigint, writable: boolean): SharedMemory;
}

/** Everything a host gives to the device. */
export interface DeviceHost {
  readonly doorbells: DoorbellHost;
  readonly kicks: KickHost;
  readonly window: WindowHost;
  /** Where the guest's memory may be shared. */
  readonly memoryFiles?: GuestMemoryFiles | undefined;
}
