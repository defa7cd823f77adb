import type { Logger } from '../../log.js';
import type { BarDefinition, BarKind, MsixMessage } from '../../pci/index.js';
import type { TunnelRules } from '../../tunnel/index.js';
import type { Binding } from '../../virtio/ports.js';
import type { PciId } from '../function.js';
import type { Layout } from '../layout.js';

/**
 * [address, address + length) of the guest's memory, in a file that the device maps once, when it is
 * made. Segments must not overlap; several may lie in one file.
 */
export interface MemorySegment {
  /** Guest physical address, a safe integer. */
  readonly address: number;
  readonly length: number;
  /** A memfd or file, open for writing; stays the caller's, who may close it afterwards. */
  readonly fd: number;
  readonly fileOffset: number;
}

/**
 * Guest memory of a hypervisor that keeps it in an ArrayBuffer, on the thread of the device. An
 * access whose range is not memory as a whole returns false and changes nothing; the device then
 * asks its driver for a reset, as it does (with an `error` event) where the accessor throws.
 */
export interface MemoryAccessor {
  /** Fills `target`, whose length is the access's; addresses are safe integers. */
  read(address: number, target: Uint8Array): boolean;
  write(address: number, bytes: Uint8Array): boolean;
}

/** The guest's memory: files that native code maps, or accessor functions. */
export type MemoryPort = { readonly segments: readonly MemorySegment[] } | MemoryAccessor;

/**
 * Interrupts to the guest. The device keeps the MSI-X table, pending bits, masks and ISR: what
 * arrives here is to be delivered. Called on the device's thread, also from inside accesses.
 */
export interface InterruptPort {
  /**
   * MSI-X: the vector's number and the message that the driver wrote to its table entry. Use the
   * one that suits: a store of `data` to `address`, or a callback per vector.
   */
  msix(vector: number, message: MsixMessage): void;
  /** INTA, a level: called with each change, and with false by `close` if it was asserted. */
  intx(asserted: boolean): void;
  /**
   * An eventfd that fires this vector (a KVM irqfd, for instance), asked for whenever the vector
   * fires and whenever a kick is routed to it, which is done anew when the message changes. Kicks
   * then never enter JavaScript. The fd stays the hypervisor's and must be open during the call
   * (the device duplicates it, and makes it non-blocking); undefined leaves the vector to `msix`.
   */
  eventFd?(vector: number, message: MsixMessage): number | undefined;
}

/** The frontend's memory in the guest's address space. */
export interface WindowPort {
  /** Bytes, a power of two from 4 KiB to 64 TiB: as much as all of the frontend's memory. */
  readonly size: number;
  /**
   * Shows [fdOffset, fdOffset + length) of a file at `windowOffset` of the window, readable and
   * writable; all three are multiples of 4,096. A place that is shown is never mapped again before
   * it was unmapped. The fd is the device's and open until the call has ended (duplicate it to keep
   * it). A throw or rejection means that nothing is shown, and refuses the frontend's request.
   *
   * Without `map`, and for regions that are not page-aligned, accesses come through `barRead` and
   * `barWrite`, which serve mapped regions too.
   */
  map?(fd: number, fdOffset: number, windowOffset: number, length: number): void | Promise<void>;
  /**
   * Takes exactly what one `map` has shown. When it has ended the guest must not see it any more;
   * what fails is tried again with the next change. Goes with `map`.
   */
  unmap?(windowOffset: number, length: number): void | Promise<void>;
  /**
   * Longest wait for a promise of `map` or `unmap` in milliseconds, default 5,000. A call that takes
   * longer is given up with an `error` event; until it settles nothing else can be mapped.
   */
  readonly timeoutMs?: number;
}

/** The part of a BAR that shows the frontend's memory. */
export interface WindowPlace {
  readonly bar: number;
  /** Byte offset in the BAR. */
  readonly offset: number;
  readonly size: number;
}

/** Doorbell registers for which the hypervisor may signal the eventfd by itself (ioeventfd). */
export interface DoorbellPort {
  /**
   * From now on a guest's store of up to `size` bytes to `offset` of `bar` is to signal `eventfd`,
   * whatever its value. The eventfd stays the device's and is valid until the binding is closed;
   * there is one binding per register at a time. A store that arrives through `barWrite` all the
   * same has the same effect, so a hypervisor need not obey at once.
   */
  bind(bar: number, offset: number, size: number, eventfd: number): Binding;
}

/** What `createVirtioVhostUserDevice` takes. */
export interface VirtioVhostUserOptions {
  readonly memory: MemoryPort;
  readonly interrupts: InterruptPort;
  readonly window: WindowPort;
  readonly doorbells?: DoorbellPort;
  /** Socket of the frontend VM's VMM. */
  readonly vhostUserPath: string;
  /** `server` (default): frontends connect to us. `client`: we connect to one that listens. */
  readonly vhostUserMode?: 'server' | 'client';
  /** Where the registers are (docs/protocol.md), default `split`. */
  readonly layout?: Layout;
  /** Vrings that a frontend may use, 1..1024, default 256. */
  readonly maxVhostQueues?: number;
  /** Textual UUID, default random. */
  readonly uuid?: string;
  /** Default 1af4:1058, the RFC's. */
  readonly pciId?: PciId;
  /** Permission bits of the socket in mode `server`, default 0600. */
  readonly socketMode?: number;
  /** Group of the socket in mode `server`. */
  readonly socketGid?: number;
  /** What becomes of requests that the device does not know, and features to hide. */
  readonly rules?: TunnelRules;
  /** Anything with pino's methods; silent by default. */
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

/**
 * Events of the device. Listeners run on the device's thread, some inside an access of the guest; one
 * that throws ends as an uncaught exception of its own and leaves the device as it is.
 */
export interface VirtioVhostUserEvents {
  /**
   * The guest has placed or moved BARs, or switched their decoding on or off: `barAddress` has the
   * new places. Emitted by `configWrite`, `reset` and `close` before they return.
   */
  'bars-moved': () => void;
  /** A frontend is connected, and its messages follow. */
  'frontend-connected': () => void;
  /**
   * It is gone, or was dropped: a stable code (`EOF`, `BACKEND_DOWN`, a refusal, ...) and one line
   * for a log. What it had in the window is being taken back.
   */
  'frontend-disconnected': (code: string, detail: string) => void;
  /** What the window shows from now on, whenever the frontend changes it. */
  'memory-table': (regions: readonly FrontendMemoryRegion[]) => void;
  /** The driver broke the rules, and has to reset the device. */
  'needs-reset': (reason: string) => void;
  /**
   * The hypervisor's side failed, and the device goes on: a port threw, rejected or did not end
   * (`PORT_TIMEOUT`), guest memory shrank (`MEMORY_LOST`), or an access was none (`BAD_ACCESS`, once
   * per kind). Without a listener it is logged and nothing else.
   */
  error: (error: Error) => void;
}

export type { BarDefinition, BarKind, Binding, Layout, Logger, MsixMessage, PciId, TunnelRules };
