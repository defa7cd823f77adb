import type { Native } from '../native.js';
import { ISR_KICK } from './constants.js';

type Fds = Pick<Native, 'createEventFd' | 'signalEventFd' | 'closeFd'>;

/**
 * Kicks for an access without MSI-X. The ISR register says that some vring was kicked, not which
 * one, so every backend's eventfd is signalled: a backend that finds nothing goes back to sleep.
 */
export class IsrKicks {
  private readonly eventFds = new Map<number, number>();

  constructor(
    private readonly native: Fds,
    private readonly driver: { readIsr(): number },
  ) {}

  /** Whether there is anybody to look for. */
  get active(): boolean {
    return this.eventFds.size > 0;
  }

  /** The eventfd that gets the kicks of a vring, the same one until `clear`. */
  eventFd(vring: number): number {
    let fd = this.eventFds.get(vring);
    if (fd === undefined) {
      fd = this.native.createEventFd();
      this.eventFds.set(vring, fd);
    }
    return fd;
  }

  /** @returns whether anything else than a kick happened */
  poll(): boolean {
    const bits = this.driver.readIsr();
    if ((bits & ISR_KICK) !== 0) {
      for (const fd of this.eventFds.values()) this.native.signalEventFd(fd);
    }
    return (bits & ~ISR_KICK) !== 0;
  }

  /** Nobody wants kicks any more. */
  clear(): void {
    for (const fd of this.eventFds.values()) this.native.closeFd(fd);
    this.eventFds.clear();
  }
}
