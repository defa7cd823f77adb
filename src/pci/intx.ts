/**
 * The interrupt status register and the INTA level that follows from it (virtio 1.3 §4.1.4.5).
 */
import { RegisterFile, reserved } from './registers.js';

/**
 * ISR bits are set whether or not MSI-X is on: the specification asks for it only without MSI-X,
 * but QEMU always does, and the DPDK driver of 2019 finds a status change by bit 1 under MSI-X.
 */
export class Intx {
  /** The `isr` structure: one byte, cleared by reading it. */
  readonly registers: RegisterFile;
  #isr = 0;
  #disabled = false;
  #msixEnabled = false;
  #asserted = false;

  /** `drive` gets each change of the level, not its repetitions. */
  constructor(private readonly drive: (asserted: boolean) => void) {
    this.registers = new RegisterFile(
      'virtio_pci_isr',
      [
        {
          name: 'isr_status',
          width: 1,
          get: () => this.#isr,
          read: (isr) => {
            this.#isr = 0;
            this.#update();
            return isr;
          },
        },
        // Padding, so that a driver which reads a whole dword stays inside of the structure.
        reserved(3),
      ],
      4,
    );
  }

  /** Whether an interrupt is pending that INTx would carry: the PCI status register's bit 3. */
  get pending(): boolean {
    return this.#isr !== 0 && !this.#msixEnabled;
  }

  /** The level now: a host that masks INTA until its EOI asks again. */
  get asserted(): boolean {
    return this.#asserted;
  }

  /** Sets bits of the ISR. */
  raise(bits: number): void {
    this.#isr |= bits;
    this.#update();
  }

  /** Command register, Interrupt Disable. */
  setDisabled(disabled: boolean): void {
    this.#disabled = disabled;
    this.#update();
  }

  /** A function with MSI-X enabled must not use INTx (PCI Express 6.0 §6.1.4.3). */
  setMsixEnabled(enabled: boolean): void {
    this.#msixEnabled = enabled;
    this.#update();
  }

  /** Clears the ISR, and with it the level. */
  clear(): void {
    this.#isr = 0;
    this.#update();
  }

  #update(): void {
    const asserted = this.pending && !this.#disabled;
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    this.drive(asserted);
  }
}
