import type { VfioUserConnection, VfioUserIrqInfo } from 'vfio-ts-bindings';
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
} from 'vfio-ts-bindings';
import type { Native, NativeRelay } from '../../native.js';
import type { InterruptHost } from '../../pci/index.js';
import type { Binding } from '../../virtio/ports.js';

/** A kick eventfd that fires a vector, whether or not the client has set the vector's eventfd. */
interface KickBinding {
  readonly eventfd: number;
  readonly vector: number;
  relay: NativeRelay | undefined;
}

/**
 * Interrupts through the eventfds that the client set with SET_IRQS. The client keeps the MSI-X
 * table and the masks, and replaces the eventfds when they change.
 */
export class VfioUserInterrupts implements InterruptHost {
  readonly #kicks = new Set<KickBinding>();
  #connection: VfioUserConnection | undefined;
  #intx = false;

  constructor(private readonly native: Pick<Native, 'relayEventFd' | 'watchEventFd'>) {}

  /** What GET_IRQ_INFO says, by index. EVENTFD without NORESIZE: vectors may be set one by one. */
  static irqs(vectorCount: number): VfioUserIrqInfo[] {
    const irqs = Array.from({ length: VFIO_PCI_NUM_IRQS }, () => ({ count: 0, flags: 0 }));
    irqs[VFIO_PCI_INTX_IRQ_INDEX] = {
      count: 1,
      flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
    };
    irqs[VFIO_PCI_MSIX_IRQ_INDEX] = { count: vectorCount, flags: VFIO_IRQ_INFO_EVENTFD };
    return irqs;
  }

  connected(connection: VfioUserConnection): void {
    this.#connection = connection;
  }

  disconnected(): void {
    this.#connection = undefined;
    this.#intx = false;
    for (const kick of this.#kicks) this.#connect(kick);
  }

  /** The client changed eventfds or masks of [start, start + count). */
  irqChanged(index: number, start: number, count: number): void {
    if (index === VFIO_PCI_MSIX_IRQ_INDEX) {
      for (const kick of this.#kicks) {
        if (kick.vector >= start && kick.vector < start + count) this.#connect(kick);
      }
    } else if (index === VFIO_PCI_INTX_IRQ_INDEX && this.#intx) {
      // UNMASK is the end of interrupt: a level that is still asserted fires again.
      this.#connection?.triggerIrq(VFIO_PCI_INTX_IRQ_INDEX, 0);
    }
  }

  msix(vector: number): void {
    this.#connection?.triggerIrq(VFIO_PCI_MSIX_IRQ_INDEX, vector);
  }

  intx(asserted: boolean): void {
    this.#intx = asserted;
    if (asserted) this.#connection?.triggerIrq(VFIO_PCI_INTX_IRQ_INDEX, 0);
    else this.#connection?.clearIrq(VFIO_PCI_INTX_IRQ_INDEX, 0);
  }

  takes(vector: number): boolean {
    return this.#connection?.irqEventFd(VFIO_PCI_MSIX_IRQ_INDEX, vector) !== undefined;
  }

  bindEventFd(eventfd: number, vector: number): Binding {
    const kick: KickBinding = { eventfd, vector, relay: undefined };
    this.#kicks.add(kick);
    this.#connect(kick);
    return {
      close: () => {
        this.#kicks.delete(kick);
        kick.relay?.close();
        kick.relay = undefined;
      },
    };
  }

  watchEventFd(eventfd: number, onSignal: () => void): Binding {
    return this.native.watchEventFd(eventfd, onSignal);
  }

  /** Without a taker the eventfd is left alone, and keeps its signals. */
  #connect(kick: KickBinding): void {
    kick.relay?.close();
    const target = this.#connection?.irqEventFd(VFIO_PCI_MSIX_IRQ_INDEX, kick.vector);
    kick.relay = target === undefined ? undefined : this.native.relayEventFd(kick.eventfd, target);
  }
}
