import type { Native } from '../native.js';
import { IsrKicks } from './isr-kicks.js';
import type { InterruptHandle, IntxInterrupt } from './pci-access.js';

/** Without MSI-X, but with INTx: one interrupt for everything; the ISR register tells for what. */
export class IntxNotifications {
  private readonly kicks: IsrKicks;

  constructor(
    native: Pick<Native, 'createEventFd' | 'signalEventFd' | 'closeFd'>,
    private readonly intx: IntxInterrupt,
    driver: { readIsr(): number },
  ) {
    this.kicks = new IsrKicks(native, driver);
  }

  /** Signalled when `acknowledge` should be called. */
  get interrupt(): InterruptHandle {
    return this.intx;
  }

  kick(vring: number): InterruptHandle {
    return { eventfd: this.kicks.eventFd(vring) };
  }

  /** Passes kicks on, and lets the next interrupt through: reading the register took this one back. */
  acknowledge(): void {
    this.kicks.poll();
    this.intx.unmask();
  }

  close(): void {
    this.kicks.clear();
    this.intx.mask();
  }
}
