/**
 * What a tunnel session needs from the device on whose rxq/txq it works. The session owns the
 * connection and the policy per message; the device owns queues, window, doorbells and kicks.
 */

/** One region of a frontend's memory table, as the frontend described it. */
export interface FrontendRegion {
  readonly guestAddress: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  /** Offset of the region in its file. */
  readonly mmapOffset: bigint;
  /** The file. Ownership passes to the device with the call, whatever its outcome. */
  readonly fd: number;
}

/** The dirty log of SET_LOG_BASE ("Log description"): one bit per page of 4 KiB. */
export interface FrontendLog {
  readonly size: bigint;
  /** Offset of the log in its file. */
  readonly mmapOffset: bigint;
  /** The file. Ownership passes to the device with the call, whatever its outcome. */
  readonly fd: number;
}

/** The shared buffer of SET_INFLIGHT_FD, "Inflight description". */
export interface FrontendInflight {
  readonly size: bigint;
  /** Offset of the buffer in its file. */
  readonly mmapOffset: bigint;
  /** The file. Ownership passes to the device with the call, whatever its outcome. */
  readonly fd: number;
}

/** A buffer for in-flight tracking that the device has made. */
export interface ProvidedInflight {
  /** Absolute offset in the window. */
  readonly place: bigint;
  /** The memfd that the buffer fills; the caller's. */
  readonly fd: number;
}

/** A part of the guest's memory in its file. */
export interface SharedMemory {
  /** The file; the caller's. */
  readonly fd: number;
  readonly fileOffset: bigint;
}

/** The same region as the guest is told about it: at which place of the window it lies. */
export interface ShownRegion {
  readonly guestAddress: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  /** See docs/protocol.md: a driver that packs size + mmap_offset finds exactly this place. */
  readonly mmapOffset: bigint;
}

export type DoorbellKind = 'call' | 'err' | 'log';

export interface TunnelBackend {
  /** Vrings that the device has doorbells for. */
  readonly maxVhostQueues: number;
  /**
   * Puts one little-endian vhost-user message into an rxq buffer. False when there is no buffer:
   * the session keeps the message, stops reading, and is told by {@link TunnelSession.roomInRxq}.
   * @throws VvuError of scope `peer` when the driver's buffer is too small for the message
   */
  toGuest(message: Uint8Array): boolean;
  /**
   * Replaces the memory table, all or nothing. The answer is in the order in which the guest must
   * be told. On failure the old table stays.
   * @throws VvuError of scope `request`: overlap, overflow, no room in the window, unmappable fd
   */
  setMemoryTable(regions: readonly FrontendRegion[]): Promise<readonly ShownRegion[]>;
  /** Undefined for a region that is there already: it is counted, and the guest knows it. */
  addMemoryRegion(region: FrontendRegion): Promise<ShownRegion | undefined>;
  /**
   * Matches guest address, size and user address, as the specification asks. Undefined while the
   * region stays, because it was added more often than removed.
   */
  removeMemoryRegion(region: Omit<FrontendRegion, 'fd'>): Promise<ShownRegion | undefined>;
  /**
   * Shows the dirty log instead of an earlier one, which stays on failure.
   * @returns the log's absolute offset in the window
   * @throws VvuError of scope `request`, as for a memory table
   */
  setLog(log: FrontendLog): Promise<bigint>;
  /**
   * Makes a zeroed buffer for in-flight tracking, and shows it instead of an earlier one, which
   * stays on failure.
   * @throws VvuError of scope `request`: no room in the window
   */
  createInflight(size: number): Promise<ProvidedInflight>;
  /**
   * Shows the buffer that the frontend has kept, instead of an earlier one, which stays on failure.
   * @returns its absolute offset in the window
   * @throws VvuError of scope `request`: as for a memory table, or a file that may shrink
   */
  setInflight(inflight: FrontendInflight): Promise<bigint>;
  /**
   * The file behind [address, address + length) of the guest's memory, addressed as in virtqueues.
   * @throws VvuError of scope `request` for what is not in one file, or is not page-aligned there
   */
  shareMemory(address: bigint, length: bigint, writable: boolean): SharedMemory;
  /**
   * Binds a doorbell to an eventfd, or unbinds it. Ownership of the fd passes with the call.
   * @throws VvuError of scope `request` when the fd is no eventfd or the index out of range
   */
  bindDoorbell(kind: DoorbellKind, index: number, fd: number | undefined): void;
  /** The same for the kick eventfd of a vring. */
  bindKick(index: number, fd: number | undefined): void;
  /**
   * The session is over; what was bound and shown for it is taken back by the device. Called once
   * per session, also from inside {@link TunnelSession.close}.
   */
  sessionClosed(session: TunnelSession, code: string, detail: string): void;
}

/** One frontend connection, from accept to close. */
export interface TunnelSession {
  /** Starts to read the socket; called when the backend is up. */
  start(): void;
  /** Rxq buffers have become available again. */
  roomInRxq(): void;
  /**
   * A message taken from txq, little-endian. False when the socket is full: the device leaves
   * further messages in txq until `onRoom` is called.
   * @throws VvuError of scope `device` for a message that is no vhost-user message
   */
  fromGuest(message: Uint8Array): boolean;
  /** Installed by the device: the socket has room again. */
  onRoom: (() => void) | undefined;
  /** Ends the connection, and with it the generation. Idempotent. */
  close(reason: string): void;
}

/**
 * Where frontends connect, as the device sees it. It serves one frontend at a time, and none while
 * the backend is down.
 */
export interface FrontendEndpoint {
  /** Called once, before anything else. The device owns the sessions that `onSession` gets. */
  attach(backend: TunnelBackend, onSession: (session: TunnelSession) => void): void;
  /** True: the backend is up, accept or connect. False: hold frontends back. */
  want(wanted: boolean): void;
  /** Stops for good, and removes the socket file. */
  close(): void;
}
