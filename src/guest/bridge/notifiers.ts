/** The eventfds that a local backend gets: kicks come in through them, calls go out. */
import type { Native } from '../../native.js';
import type { DoorbellRegister } from '../notifications.js';
import type { Binding, InterruptHandle } from '../pci-access.js';

/** The part of the driver that notifies. */
export interface NotifyingDriver {
  kick(vring: number): InterruptHandle | undefined;
  doorbell(vring: number): DoorbellRegister;
  errDoorbell(vring: number): DoorbellRegister | undefined;
  logDoorbell(): DoorbellRegister;
}

/** Kicks without interrupts, see {@link IsrKicks}. */
export interface KickPoller {
  /** The eventfd that gets the kicks of a vring; owned by the poller. */
  eventFd(vring: number): number;
}

export type DoorbellName = 'call' | 'err' | 'log';

type Fds = Pick<Native, 'createEventFd' | 'readEventFd' | 'closeFd'>;

interface Outgoing {
  /** Ours; the backend has a duplicate. */
  readonly fd: number;
  readonly binding: Binding | undefined;
}

/**
 * Kicks: the very eventfd that the MSI-X vector signals goes to the backend, so nothing stands
 * between the two. It belongs to the access object and outlives the connection, which is why it is
 * emptied at its end. Calls: eventfds of one connection, each bound to a doorbell until `close`, so
 * that a backend of the past, which may still hold its end, rings nobody.
 */
export class Notifiers {
  private readonly outgoing = new Map<string, Outgoing>();
  private readonly kicks = new Set<number>();

  constructor(
    private readonly native: Fds,
    private readonly driver: NotifyingDriver,
    /** Used for vrings that have no vector. */
    private readonly poller: KickPoller | undefined,
  ) {}

  /** The eventfd of a vring's kicks; undefined when the backend has to poll the vring. */
  kick(vring: number): number | undefined {
    const fd = this.driver.kick(vring)?.eventfd ?? this.poller?.eventFd(vring);
    if (fd !== undefined) this.kicks.add(fd);
    return fd;
  }

  /**
   * An eventfd whose signals ring the doorbell, the same one for as long as it is not released. A
   * device without that doorbell swallows the signals.
   */
  doorbell(name: DoorbellName, vring: number): number {
    const key = `${name} ${vring}`;
    const known = this.outgoing.get(key);
    if (known !== undefined) return known.fd;
    const fd = this.native.createEventFd();
    try {
      const binding = this.register(name, vring)?.ringOnSignal(fd);
      this.outgoing.set(key, { fd, binding });
    } catch (error) {
      this.native.closeFd(fd);
      throw error;
    }
    return fd;
  }

  /** The frontend wants no such notifications any more. */
  release(name: DoorbellName, vring: number): void {
    this.end(`${name} ${vring}`);
  }

  /** Cuts every connection between the two sides. Idempotent. */
  close(): void {
    for (const key of [...this.outgoing.keys()]) this.end(key);
    for (const fd of this.kicks) this.native.readEventFd(fd);
    this.kicks.clear();
  }

  private register(name: DoorbellName, vring: number): DoorbellRegister | undefined {
    if (name === 'log') return this.driver.logDoorbell();
    return name === 'call' ? this.driver.doorbell(vring) : this.driver.errDoorbell(vring);
  }

  private end(key: string): void {
    const known = this.outgoing.get(key);
    if (known === undefined) return;
    this.outgoing.delete(key);
    known.binding?.close();
    this.native.closeFd(known.fd);
  }
}
