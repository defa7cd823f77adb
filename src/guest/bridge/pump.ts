import type { Native } from '../../native.js';
import type { VvuDriver } from '../driver.js';

export interface PumpHandlers {
  /** Most messages to take now; 0 looks at the status alone. */
  limit(): number;
  /** After each round, and at least every few milliseconds while `busy`. */
  after(): void;
  /** Something is pending that no interrupt announces. */
  busy(): boolean;
  /** The device is gone. */
  failed(error: unknown): void;
}

/** With interrupts: they wake it, and a full txq or a lost interrupt waits no longer than this. */
const IDLE_WITH_INTERRUPTS = 100;
const IDLE_POLLING = 10;
const BUSY = 1;
/** Rounds between two visits of the event loop. */
const ROUNDS_PER_TURN = 16;

/** Calls the driver's `poll` when there is something to do. */
export class Pump {
  private readonly stopWatching: () => void;
  private timer: NodeJS.Timeout | undefined;
  private soon: NodeJS.Immediate | undefined;
  private closed = false;

  constructor(
    native: Pick<Native, 'watchEventFd'>,
    private readonly driver: Pick<VvuDriver, 'interrupt' | 'poll' | 'expectChange' | 'connected'>,
    private readonly handlers: PumpHandlers,
  ) {
    const { interrupt } = driver;
    if (interrupt === undefined) this.stopWatching = () => undefined;
    else {
      const watch = native.watchEventFd(interrupt.eventfd, () => {
        driver.expectChange();
        this.turn();
      });
      this.stopWatching = () => watch.close();
    }
    this.rest();
  }

  /** Polls in the next turn of the event loop. */
  wake(): void {
    if (this.closed) return;
    this.soon ??= setImmediate(() => {
      this.soon = undefined;
      this.turn();
    });
  }

  close(): void {
    this.closed = true;
    this.stopWatching();
    clearTimeout(this.timer);
    clearImmediate(this.soon);
  }

  /** `busy` may have changed. */
  reconsider(): void {
    this.rest();
  }

  private turn(): void {
    if (this.closed) return;
    try {
      for (let round = 0; this.driver.poll(this.handlers.limit()) > 0; round++) {
        if (round === ROUNDS_PER_TURN) {
          this.wake();
          break;
        }
      }
      this.handlers.after();
    } catch (error) {
      this.handlers.failed(error);
    }
    this.rest();
  }

  private rest(): void {
    clearTimeout(this.timer);
    if (this.closed) return;
    this.timer = setTimeout(() => this.turn(), this.delay());
  }

  private delay(): number {
    if (this.handlers.busy()) return BUSY;
    if (this.driver.interrupt !== undefined) return IDLE_WITH_INTERRUPTS;
    return IDLE_POLLING;
  }
}
