/**
 * What the virtio-vhost-user device needs besides being a virtio device: its additional resources
 * (doorbells, kick notifications, window), which a host shows to the guest in its own way.
 */
import type { NativeMemory } from '../native.js';

/** Closes what was bound; idempotent. */
export interface Binding {
  close(): void;
}

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

/** A part of a frontend's memory as the device holds it. */
export interface WindowRegion {
  /** Duplicate-free handle of the frontend's file, owned by the device while shown. */
  readonly fd: number;
  /** File identity, for hosts with a preset file. */
  readonly dev: bigint;
  readonly ino: bigint;
  /** First byte in the file (the region's mmap_offset). */
  readonly fileOffset: number;
  readonly length: number;
  /** The device's own mapping of exactly [fileOffset, fileOffset + length), for trapped access. */
  readonly memory: NativeMemory;
  /** Offset of the region in `memory` (mappings start at a page boundary of the file). */
  readonly memoryOffset: number;
}

export type WindowKind = 'dynamic' | 'preset' | 'trapped';

/** Where a region may be shown. */
export interface WindowPlacement {
  /** Byte offset in the window. */
  readonly offset: number;
  readonly kind: WindowKind;
}

/** The shared-memory window in which a guest sees the frontend's memory. */
export interface WindowHost {
  /** Bytes of the window, a power of two. */
  readonly size: number;
  /**
   * The preset file behind the window's mapped area, if there is one: a region of the same file
   * is visible at its file offset without any action.
   */
  readonly preset?: { readonly dev: bigint; readonly ino: bigint; readonly size: number };
  /** Whether regions can be mapped into the running guest at any page-aligned offset. */
  readonly dynamic: boolean;
  /** Where regions can be trapped: [trappedOffset, size) is backed by no file. */
  readonly trappedOffset: number;
  /** Shows a region at a place. Resolves when the guest can access it. */
  show(region: WindowRegion, placement: WindowPlacement): Promise<Binding> | Binding;
}

/** Everything a host gives to the device. */
export interface DeviceHost {
  readonly doorbells: DoorbellHost;
  readonly kicks: KickHost;
  readonly window: WindowHost;
}

/** virtio 1.3 §4.1.4.3: VIRTIO_MSI_NO_VECTOR. */
export const NO_VECTOR = 0xffff;
