/** What the client announced, with the defaults of the specification filled in. */
export interface PeerFeatures {
  /** Most fds that the peer accepts in one message. */
  readonly maxMsgFds: number;
  /** Largest data transfer that both sides accept. */
  readonly maxDataXferSize: number;
  readonly maxDmaMaps: number;
  /** Page sizes for DMA maps, or'ed. */
  readonly pgsizes: number;
  readonly writeMultiple: boolean;
  /** Whether the `region_remap` extension is in force (docs/region-remap.md). */
  readonly regionRemap: boolean;
  /** Most operations in one region_remap command; 0 if it is not in force. */
  readonly maxRemapOps: number;
}

/** Which of a vector's eventfds: signalled when it fires, is masked, or is unmasked. */
export type IrqAction = 'trigger' | 'mask' | 'unmask';

/** Shows [offset, offset + length) of a region as memory of a file. All values are whole pages. */
export interface RemapMap {
  readonly kind: 'map';
  readonly offset: number;
  readonly length: number;
  /**
   * Sending: stays the caller's, and may be closed when the call returns. Receiving: owned by the
   * package, which closes it when the handler has finished; map it or duplicate it before.
   */
  readonly fd: number;
  readonly fileOffset: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** Takes away mapped areas: the range must not cut any of them. */
export interface RemapUnmap {
  readonly kind: 'unmap';
  readonly offset: number;
  readonly length: number;
}

export type RemapOp = RemapMap | RemapUnmap;

/** A negotiated connection as the device sees it. `VfioUserServer` implements it. */
export interface VfioUserConnection {
  readonly clientFeatures: PeerFeatures;
  readonly closed: boolean;
  /** The eventfd that the client set for a vector; it stays the connection's. */
  irqEventFd(index: number, vector: number, action?: IrqAction): number | undefined;
  irqMasked(index: number, vector: number): boolean;
  /**
   * Fires an interrupt: signals its eventfd, or remembers it while it is masked.
   * @returns whether the eventfd was signalled
   */
  triggerIrq(index: number, vector: number): boolean;
  /** Forgets a trigger that was remembered while masked (a level interrupt was deasserted). */
  clearIrq(index: number, vector: number): void;
  /**
   * Reads client memory by message; works for memory without an fd too. Never wait for it inside
   * a handler of the device.
   * @throws VfioUserError EFAULT (not mapped), EPERM (not readable), EBUSY (too many requests
   * outstanding), ENOTCONN, ETIMEDOUT, or the client's errno
   */
  dmaRead(address: number, length: number): Promise<Uint8Array>;
  /** Writes client memory by message; `data` must not change until it resolves. */
  dmaWrite(address: number, data: Uint8Array): Promise<void>;
  /**
   * Changes what the client sees of a region, all operations or none. Rejected with ENOTSUP if
   * `clientFeatures.regionRemap` is false.
   */
  remapRegion(index: number, ops: readonly RemapOp[]): Promise<void>;
  /** Ends the connection. */
  close(): void;
}
