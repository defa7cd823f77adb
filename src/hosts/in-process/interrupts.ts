import type { Native } from '../../native.js';
import type { InterruptHost, MsixMessage } from '../../pci/index.js';
import type { Binding } from '../../virtio/ports.js';
import type { Guard } from './failures.js';
import type { InterruptPort } from './options.js';

/** Interrupts through callbacks of the hypervisor, or eventfds where it has them. */
export class PortInterrupts implements InterruptHost {
  constructor(
    private readonly native: Pick<
      Native,
      'checkEventFd' | 'relayEventFd' | 'watchEventFd' | 'signalEventFd'
    >,
    private readonly port: InterruptPort,
    private readonly guard: Guard,
  ) {}

  msix(vector: number, message: MsixMessage): void {
    const fd = this.#eventFd(vector, message);
    if (fd === undefined) this.guard(() => this.port.msix(vector, message));
    else this.native.signalEventFd(fd);
  }

  intx(asserted: boolean): void {
    this.guard(() => this.port.intx(asserted));
  }

  bindEventFd(eventfd: number, vector: number, message: MsixMessage): Binding {
    const target = this.#eventFd(vector, message);
    const relay = target === undefined ? undefined : this.native.relayEventFd(eventfd, target);
    return relay ?? this.watchEventFd(eventfd, () => this.msix(vector, message));
  }

  watchEventFd(eventfd: number, onSignal: () => void): Binding {
    return this.native.watchEventFd(eventfd, onSignal);
  }

  /** The hypervisor's eventfd, if there is one and it is one. */
  #eventFd(vector: number, message: MsixMessage): number | undefined {
    return this.guard(() => {
      const fd = this.port.eventFd?.(vector, message);
      if (fd !== undefined) this.native.checkEventFd(fd);
      return fd;
    });
  }
}
