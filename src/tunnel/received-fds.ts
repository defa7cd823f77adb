/** How fds are closed; the native addon, or a test's accounting. */
export interface FdCloser {
  closeFd(fd: number): void;
}

/**
 * The fds of one message. It owns them until they are taken; `close` ends those that nobody took,
 * so that no way out of a handler leaks one.
 */
export class ReceivedFds {
  readonly count: number;
  #left: number[];

  constructor(
    fds: readonly number[],
    private readonly closer: FdCloser,
  ) {
    this.count = fds.length;
    this.#left = [...fds];
  }

  /** All fds in order; the caller owns them from now on. */
  takeAll(): number[] {
    return this.#left.splice(0);
  }

  /** Closes what was not taken. Idempotent. */
  close(): void {
    for (const fd of this.takeAll()) {
      this.closer.closeFd(fd);
    }
  }
}
