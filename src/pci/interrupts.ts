/**
 * The interrupts of one function: MSI-X where the driver assigned a vector, the ISR and INTx beside
 * it, and eventfds that fire vectors.
 */
import { VIRTIO_PCI_ISR_KICK } from '../virtio/constants.js';
import type { Binding } from '../virtio/ports.js';
import { Intx } from './intx.js';
import { KickBinding } from './kick-binding.js';
import { Msix, type MsixOwnership } from './msix.js';
import type { InterruptHost } from './ports.js';

export interface InterruptOptions {
  readonly host: InterruptHost;
  /** MSI-X vectors, 1..2048; 0 for a function without MSI-X. */
  readonly vectors: number;
  /** Whether the vector table is kept here or by a vfio-user client. */
  readonly ownership: MsixOwnership;
}

export class FunctionInterrupts {
  readonly msix: Msix | undefined;
  readonly intx: Intx;
  readonly #host: InterruptHost;
  readonly #kicks = new Set<KickBinding>();

  constructor({ host, vectors, ownership }: InterruptOptions) {
    this.#host = host;
    this.intx = new Intx((asserted) => host.intx(asserted));
    if (vectors === 0) return;
    this.msix = new Msix(
      vectors,
      ownership,
      (vector, message) => host.msix(vector, message),
      (first, end) => this.#msixChanged(first, end),
    );
  }

  /** MSI-X vectors that a driver may assign. */
  get vectorCount(): number {
    return this.msix?.vectorCount ?? 0;
  }

  /**
   * An interrupt with cause `isr` (VIRTIO_PCI_ISR_* bits) on a vector; with NO_VECTOR, or without
   * MSI-X, it is INTx alone.
   */
  raise(isr: number, vector: number): void {
    this.intx.raise(isr);
    this.msix?.fire(vector);
  }

  /**
   * Each signal of `eventfd` fires `vector`, natively where the host can. With NO_VECTOR, or while
   * MSI-X is off, it sets ISR bit 2 and INTx. While the vector is masked, and with NO_VECTOR under
   * MSI-X, signals stay in the eventfd, and so are delivered when a taker comes. The binding is the
   * caller's to close, also at a reset. The fd stays the caller's.
   */
  bind(eventfd: number, vector: number): Binding {
    const kick = new KickBinding(eventfd, vector, this.#host, this.msix, () =>
      this.intx.raise(VIRTIO_PCI_ISR_KICK),
    );
    this.#kicks.add(kick);
    return {
      close: () => {
        this.#kicks.delete(kick);
        kick.close();
      },
    };
  }

  /** Reset of the virtio device: no cause is pending, the level is low. MSI-X stays as it is. */
  clearCauses(): void {
    this.intx.clear();
  }

  /** Reset of the function. */
  reset(): void {
    this.intx.clear();
    this.intx.setDisabled(false);
    this.msix?.reset();
  }

  /** A client that keeps the table takes other vectors of [first, end) than before. */
  takersChanged(first: number, end: number): void {
    const all = end - first === this.vectorCount;
    for (const kick of this.#kicks) {
      if (all || (kick.vector >= first && kick.vector < end)) kick.update();
    }
  }

  #msixChanged(first: number, end: number): void {
    this.intx.setMsixEnabled(this.msix?.enabled ?? false);
    this.takersChanged(first, end);
  }
}
