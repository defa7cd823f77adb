/**
 * What carries vfio-user messages: an ordered, reliable stream of bytes with file descriptors.
 *
 * The package does no I/O of its own. A transport over AF_UNIX, an in-memory pair
 * (`createTransportPair`) and a fuzzer are all the same to it.
 */
export interface Transport {
  /** Installs the handlers and starts delivery. Called once, by the server or the client. */
  start(handlers: TransportHandlers): void;
  /**
   * Queues bytes of one message. The fds stay the caller's, and may be closed when this returns.
   * @returns false when the peer reads too slowly; `writable` tells when to go on
   */
  send(bytes: Uint8Array, fds?: readonly number[]): boolean;
  /** Stops and restarts delivery: backpressure towards the peer. */
  pause(): void;
  resume(): void;
  /**
   * Sends a whole request and waits for its reply without returning to the event loop; other
   * messages that arrive meanwhile are delivered afterwards. Only a client that stands in for a
   * CPU needs it, so a transport may lack it.
   */
  request?(bytes: Uint8Array, timeoutMs: number): Uint8Array;
  /** Closes an fd that was received and is not wanted. */
  closeFd(fd: number): void;
  /** Ends the connection; `closed` follows. */
  close(): void;
}

export interface TransportHandlers {
  /**
   * A chunk of the stream, cut anywhere. The fds belong to the message whose first byte is in this
   * chunk; the callee owns them. It may keep the bytes too: the transport must not reuse them.
   */
  data(bytes: Uint8Array, fds: number[]): void;
  writable?(): void;
  /** Called exactly once. `reason` is a stable code such as `EOF` or `ECONNRESET`. */
  closed(reason: string, detail: string): void;
}
