/**
 * What a PCI function needs from the host that carries it, and how its BARs are described.
 */
import type { Binding, RegisterBlock } from '../virtio/ports.js';

/** What the driver wrote to a vector's MSI-X table entry; zeros where the host owns the table. */
export interface MsixMessage {
  readonly address: bigint;
  readonly data: number;
}

/** Delivers interrupts to the guest. */
export interface InterruptHost {
  /** Fires a vector. Vectors that the guest has not set up are the host's to drop or to keep. */
  msix(vector: number, message: MsixMessage): void;
  /** Drives INTA, a level: called with each change, first with true. */
  intx(asserted: boolean): void;
  /**
   * Each signal of `eventfd` fires the vector, without entering JavaScript where the host can.
   * Signals that come while the guest has no taker for the vector stay in the eventfd. The fd stays
   * the caller's and outlives the binding. A host without it has its eventfds watched instead.
   */
  bindEventFd?(eventfd: number, vector: number, message: MsixMessage): Binding;
  /**
   * For a client that keeps the vector table: whether it delivers the vector now. What it takes is
   * delivered whatever the enable bit says; what it does not take is INTx while MSI-X is disabled.
   */
  takes?(vector: number): boolean;
  /** Calls back with each signal, until the binding is closed. The fd stays the caller's. */
  watchEventFd(eventfd: number, onSignal: () => void): Binding;
}

export type BarKind = 'memory32' | 'memory64';

/** A base address register. A `memory64` takes index and index + 1. */
export interface BarDefinition {
  readonly index: number;
  /** Bytes: a power of two, at least 16; at most 2 GiB for `memory32`. */
  readonly size: number;
  readonly kind: BarKind;
  readonly prefetchable: boolean;
}

/** [offset, offset + length) of a BAR, served by the block's first `length` bytes. */
export interface BarRegion {
  readonly offset: number;
  readonly length: number;
  readonly block: RegisterBlock;
}

/** A BAR with what lies in it; the bytes between regions read as zero and ignore writes. */
export interface Bar extends BarDefinition {
  readonly regions: readonly BarRegion[];
}

/** Where a structure starts. */
export interface Placement {
  readonly bar: number;
  readonly offset: number;
}

/**
 * Which reset: function-level (a bit in the PCI Express capability), DEVICE_RESET of vfio-user, or
 * the platform's (bus or power). All three do the same to a virtio device; hosts and logs differ.
 */
export type ResetKind = 'flr' | 'device-reset' | 'conventional';
