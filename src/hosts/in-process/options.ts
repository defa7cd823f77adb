import type { Logger } from '../../log.js';
import type { BarDefinition, MsixMessage } from '../../pci/index.js';
import type { Binding } from '../../virtio/ports.js';
import type { PciId } from '../function.js';
import type { Layout } from '../layout.js';

/** [address, address + length) of the guest's memory, in a file that the device maps. */
export interface MemorySegment {
  /** Guest physical address, a safe integer. */
  readonly address: number;
  readonly length: number;
  /** A memfd or file; stays the caller's, and may be closed after the device was made. */
  readonly fd: number;
  readonly fileOffset: number;
}

/**
 * Guest memory of a hypervisor that keeps it in an ArrayBuffer. An access whose range is not memory
 * as a whole returns false and changes nothing; the device then asks its driver for a reset.
 */
export interface MemoryAccessor {
  read(address: number, target: Uint8Array): boolean;
  write(address: number, bytes: Uint8Array): boolean;
}

export type MemoryPort = { readonly segments: readonly MemorySegment[] } | MemoryAccessor;

export interface InterruptPort {
  /** An MSI-X message: what the driver wrote to the vector's table entry, masks obeyed. */
  msix(vector: number, message: MsixMessage): void;
  /** INTA, a level: called with each change. */
  intx(asserted: boolean): void;
  /**
   * An eventfd that fires this vector (a KVM irqfd, for instance), asked for whenever a kick is
   * routed to it: kicks then never enter JavaScript. The fd stays the caller's.
   */
  eventFd?(vector: number, message: MsixMessage): number | undefined;
}

export interface WindowPort {
  /** Bytes, a power of two. */
  readonly size: number;
  /** Maps file bytes into the window's BAR; without it, accesses come through `barRead`. */
  map?(fd: number, fdOffset: number, windowOffset: number, length: number): void | Promise<void>;
  unmap?(windowOffset: number, length: number): void | Promise<void>;
}

/** The part of a BAR that shows the frontend's memory. */
export interface WindowPlace {
  readonly bar: number;
  /** Byte offset in the BAR. */
  readonly offset: number;
  readonly size: number;
}

/** A doorbell register for which the hypervisor may signal the eventfd by itself (ioeventfd). */
export interface DoorbellPort {
  /** The eventfd stays the device's and is valid until the binding is closed. */
  bind(bar: number, offset: number, size: number, eventfd: number): Binding;
}

export interface VirtioVhostUserOptions {
  readonly memory: MemoryPort;
  readonly interrupts: InterruptPort;
  readonly window: WindowPort;
  readonly doorbells?: DoorbellPort;
  /** Socket of the frontend VM's VMM. */
  readonly vhostUserPath: string;
  /** `server` (default): frontends connect to us. `client`: we connect to one that listens. */
  readonly vhostUserMode?: 'server' | 'client';
  /** Default `split`. */
  readonly layout?: Layout;
  /** 1..1024, default 256. */
  readonly maxVhostQueues?: number;
  /** Textual UUID, default random. */
  readonly uuid?: string;
  /** Default 1af4:1058, the RFC's. */
  readonly pciId?: PciId;
  /** Permission bits of the socket in mode `server`, default 0600. */
  readonly socketMode?: number;
  readonly socketGid?: number;
  readonly logger?: Logger;
}

/** A region of the frontend's memory, as its guest and this guest see it. */
export interface FrontendMemoryRegion {
  /** What it is: the dirty log of a migration and the in-flight area are no memory of the guest. */
  readonly role: 'memory' | 'log' | 'inflight';
  /** Where the frontend's guest has it, if it has. */
  readonly guestAddress: bigint | undefined;
  /** Bytes. */
  readonly length: number;
  /** Byte offset in the window. */
  readonly windowOffset: number;
  /** Whether the hypervisor's `map` shows it; otherwise accesses come through `barRead`. */
  readonly mapped: boolean;
}

export interface VirtioVhostUserEvents {
  'frontend-connected': () => void;
  'frontend-disconnected': (code: string, detail: string) => void;
  /** What the window shows from now on. */
  'memory-table': (regions: readonly FrontendMemoryRegion[]) => void;
  /** The driver broke the rules, and has to reset the device. */
  'needs-reset': (reason: string) => void;
  /** A port of the hypervisor threw. */
  error: (error: Error) => void;
}

export type { BarDefinition, Binding, Layout, Logger, MsixMessage, PciId };
