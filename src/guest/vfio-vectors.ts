/** MSI-X vectors of a VFIO device as eventfds. */
import { VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_MSIX_IRQ_INDEX } from 'vfio-ts-bindings';
import { VvuError, errorMessage } from '../errors.js';
import type { Native } from '../native.js';

/** Owns the eventfds. */
export class VfioVectors {
  /** Vectors that the device has. */
  readonly count: number;
  private readonly fixed: boolean;
  /** By vector; VFIO serves a range from 0 on, so those between are enabled along. */
  private readonly eventfds: number[] = [];

  constructor(
    private readonly native: Native,
    private readonly device: number,
  ) {
    const { count, flags } = native.vfioIrqInfo(device, VFIO_PCI_MSIX_IRQ_INDEX);
    this.count = count;
    // Before Linux 6.5 the number of vectors cannot change while MSI-X is on.
    this.fixed = (flags & VFIO_IRQ_INFO_NORESIZE) !== 0;
  }

  /**
   * The vector's eventfd, which stays the same until `disable`.
   * @throws VvuError `NO_VECTOR`
   */
  enable(vector: number): number {
    if (!(vector >= 0 && vector < this.count)) {
      throw new VvuError('NO_VECTOR', 'bug', `MSI-X vector ${vector} of ${this.count}`);
    }
    if (vector >= this.eventfds.length) this.grow(vector + 1);
    return this.eventfds[vector] ?? -1;
  }

  disable(): void {
    if (this.eventfds.length === 0) return;
    this.native.vfioDisableIrqs(this.device, VFIO_PCI_MSIX_IRQ_INDEX);
    this.close();
  }

  /** Without a word to the device, which is about to be closed. */
  close(): void {
    for (const fd of this.eventfds.splice(0)) this.native.closeFd(fd);
  }

  private grow(count: number): void {
    const before = this.eventfds.length;
    while (this.eventfds.length < count) this.eventfds.push(this.native.createEventFd());
    try {
      this.set(before);
    } catch (error) {
      for (const fd of this.eventfds.splice(before)) this.native.closeFd(fd);
      if (before > 0 && this.fixed) this.set(0);
      throw new VvuError('NO_VECTOR', 'setup', `${count} MSI-X vectors: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }

  private set(before: number): void {
    const { native, device, eventfds } = this;
    if (before === 0 || !this.fixed) {
      native.vfioSetIrqEventFds(device, VFIO_PCI_MSIX_IRQ_INDEX, before, eventfds.slice(before));
      return;
    }
    native.vfioDisableIrqs(device, VFIO_PCI_MSIX_IRQ_INDEX);
    native.vfioSetIrqEventFds(device, VFIO_PCI_MSIX_IRQ_INDEX, 0, eventfds);
    // What fired while MSI-X was off is lost: one interrupt too many makes up for it.
    for (const fd of eventfds.slice(0, before)) native.signalEventFd(fd);
  }
}
