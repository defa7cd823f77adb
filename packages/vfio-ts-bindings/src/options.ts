import type { PeerFeatures, RemapOp } from './connection.js';
import type { VfioUserLimits } from './limits.js';

/** Where one-line trace and warning texts go. */
export interface VfioUserLog {
  /** Every message, as text; absent: none is formatted. */
  trace?(direction: 'in' | 'out', text: string): void;
  /** Something was refused or went wrong; the connection goes on. */
  warn?(text: string): void;
}

export interface VfioUserServerOptions {
  /** Adds 1 to an eventfd; must not block. Errors are logged, never thrown to the peer. */
  readonly signalEventFd: (fd: number) => void;
  /** Throws if the fd is no eventfd; the request is then refused with EINVAL. */
  readonly checkEventFd?: (fd: number) => void;
  readonly limits?: Partial<VfioUserLimits>;
  /** Accept the `region_remap` extension from clients that offer it. Default true. */
  readonly regionRemap?: boolean;
  /** Accept REGION_WRITE_MULTI from clients that offer it. Default true. */
  readonly writeMultiple?: boolean;
  /** How long to wait for the reply to a DMA or remap request, in ms. Default 10,000. */
  readonly requestTimeoutMs?: number;
  /** The connection ended, negotiated or not; called once, after the device was told. */
  readonly onClosed?: (reason: string, detail: string) => void;
  readonly log?: VfioUserLog;
}

/** Client memory for DMA_READ and DMA_WRITE; a throw becomes an error reply (default EFAULT). */
export interface ClientMemory {
  /** @returns exactly `length` bytes; they are copied before anything else happens */
  read(address: number, length: number): Uint8Array;
  write(address: number, data: Uint8Array): void;
}

/** A validated region_remap request as a client's handler gets it. */
export interface RegionRemapRequest {
  readonly region: number;
  /** In order; the fds are closed by the package when the handler has finished. */
  readonly ops: readonly RemapOp[];
}

export interface VfioUserClientOptions {
  readonly limits?: Partial<VfioUserLimits>;
  /** Default 5,000 ms, per request. */
  readonly requestTimeoutMs?: number;
  /** Memory that the server may access by message; absent: refused with ENOTSUP. */
  readonly memory?: ClientMemory;
  /**
   * Applies a remap, all or nothing, and resolves when the new mappings are in force. Offered to
   * the server only if present. Must check bounds against its region before applying
   * (`applyRemap` does). A throw refuses the request.
   */
  readonly regionRemap?: (request: RegionRemapRequest) => void | Promise<void>;
  /** Offer REGION_WRITE_MULTI. Default true. */
  readonly writeMultiple?: boolean;
  /** The connection ended; all promises were rejected before. */
  readonly onClosed?: (reason: string, detail: string) => void;
  readonly log?: VfioUserLog;
}

export type { PeerFeatures };
