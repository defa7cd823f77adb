import type { Native } from '../../native.js';
import type { InterruptHost, MsixMessage } from '../../pci/index.js';
import type { Binding } from '../../virtio/ports.js';
import type { InterruptPort } from './options.js';

/** Runs a port of the hypervisor; what it throws is reported, and the device goes on. */
export type Guard = <T>(run: () => T) => T | undefined;

/** Interrupts through callbacks of the hypervisor, or eventfds where it has them. */
export class PortInterrupts implements InterruptHost {
  constructor(
    private readonly native: Pick<Native, 'relayEventFd' | 'watchEventFd' | 'signalEventFd'>,
    private readonly port: InterruptPort,
    private readonly guard: Guard,
  ) {}

  msix(vector: number, message: MsixMessage): void {
    this.guard(() => {
      const fd = this.port.eventFd?.(vector, message);
      if (fd === undefined) this.port.msix(vector, message);
      else this.native.signalEventFd(fd);
    });
  }

  intx(asserted: boolean): void {
    this.guard(() => this.port.intx(asserted));
  }

  bindEventFd(eventfd: number, vector: number, message: MsixMessage): Binding {
    const target = this.guard(() => this.port.eventFd?.(vector, message));
    const relay =
      target === undefined
        ? undefined
        : this.guard(() => this.native.relayEventFd(eventfd, target));
    return relay ?? this.watchEventFd(eventfd, () => this.msix(vector, message));
  }

  watchEventFd(eventfd: number, onSignal: () => void): Binding {
    return this.native.watchEventFd(eventfd, onSignal);
  }
}
