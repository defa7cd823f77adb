/**
 * MSI-X: vector table, pending bits and masks (PCI Express 6.0 §6.1.4, §7.7.2).
 */
import { VvuError } from '../errors.js';
import type { RegisterBlock } from '../virtio/ports.js';
import {
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_MSIX_MAX_VECTORS,
} from './constants.js';
import type { MsixMessage } from './ports.js';

/**
 * Who keeps the table and the masks. `function`: this code, for hosts that forward table accesses.
 * `client`: the vfio-user client, which shows its own table to the guest; here every vector is
 * delivered at once, and the host decides by the eventfds that it was given.
 */
export type MsixOwnership = 'function' | 'client';

const NO_MESSAGE: MsixMessage = { address: 0n, data: 0 };
const ADDRESS_LOW = 0;
const VECTOR_CONTROL = 12;
const VECTOR_MASKED = 1;

export class Msix {
  /** The vector table, 16 bytes for each vector. */
  readonly table: RegisterBlock;
  /** The pending bit array, whole quadwords. */
  readonly pba: RegisterBlock;
  readonly #entries: Uint8Array;
  readonly #view: DataView;
  readonly #pending: Uint8Array;
  #enabled = false;
  #maskAll = false;

  constructor(
    readonly vectorCount: number,
    readonly ownership: MsixOwnership,
    private readonly deliver: (vector: number, message: MsixMessage) => void,
    /** Called when the enable bit, masks or messages of vectors in [first, end) may have changed. */
    private readonly changed: (first: number, end: number) => void,
  ) {
    if (!Number.isInteger(vectorCount) || vectorCount < 1 || vectorCount > PCI_MSIX_MAX_VECTORS) {
      throw new VvuError(
        'BAD_VECTORS',
        'setup',
        `${vectorCount} MSI-X vectors: 1..2048 can be had`,
      );
    }
    this.#entries = new Uint8Array(vectorCount * PCI_MSIX_ENTRY_SIZE);
    this.#view = new DataView(this.#entries.buffer);
    this.#pending = new Uint8Array(Math.ceil(vectorCount / 64) * 8);
    this.#clear();
    this.table = {
      size: this.#entries.length,
      read: (offset, target) => target.set(this.#entries.subarray(offset, offset + target.length)),
      write: (offset, bytes) => this.#writeTable(offset, bytes),
    };
    this.pba = {
      size: this.#pending.length,
      read: (offset, target) => target.set(this.#pending.subarray(offset, offset + target.length)),
      // "Software should never write": §7.7.2.4 leaves the result undefined.
      write: () => undefined,
    };
  }

  /** The enable bit of message control; INTx is not used while it is set (§6.1.4.3). */
  get enabled(): boolean {
    return this.#enabled;
  }

  /** Message control was written. */
  setControl(control: number): void {
    this.#enabled = (control & PCI_MSIX_FLAGS_ENABLE) !== 0;
    this.#maskAll = (control & PCI_MSIX_FLAGS_MASKALL) !== 0;
    this.#flush(0, this.vectorCount);
    this.changed(0, this.vectorCount);
  }

  /** What would be sent for a vector now; undefined while it is masked, disabled or unknown. */
  deliverable(vector: number): MsixMessage | undefined {
    if (vector >= this.vectorCount) return undefined;
    if (this.ownership === 'client') return NO_MESSAGE;
    if (!this.#enabled || this.#masked(vector)) return undefined;
    const at = vector * PCI_MSIX_ENTRY_SIZE;
    return {
      address: this.#view.getBigUint64(at, true),
      data: this.#view.getUint32(at + 8, true),
    };
  }

  /** Sends the vector's message, or remembers it while it is masked. */
  fire(vector: number): void {
    if (vector >= this.vectorCount) return;
    const message = this.deliverable(vector);
    if (message) this.deliver(vector, message);
    else if (this.#enabled) this.#setPending(vector, true);
  }

  /** Reset of the function: vectors masked and disabled, nothing pending. */
  reset(): void {
    this.#clear();
    this.#enabled = false;
    this.#maskAll = false;
    this.changed(0, this.vectorCount);
  }

  #clear(): void {
    this.#entries.fill(0);
    this.#pending.fill(0);
    for (let vector = 0; vector < this.vectorCount; vector++) {
      this.#entries[vector * PCI_MSIX_ENTRY_SIZE + VECTOR_CONTROL] = VECTOR_MASKED;
    }
  }

  #writeTable(offset: number, bytes: Uint8Array): void {
    bytes.forEach((byte, index) => {
      const at = offset + index;
      const field = at % PCI_MSIX_ENTRY_SIZE;
      // Messages are dword aligned; of vector control only the mask bit exists (§7.7.2.2).
      if (field === ADDRESS_LOW) this.#entries[at] = byte & ~3;
      else if (field === VECTOR_CONTROL) this.#entries[at] = byte & VECTOR_MASKED;
      else if (field < VECTOR_CONTROL) this.#entries[at] = byte;
    });
    const first = Math.floor(offset / PCI_MSIX_ENTRY_SIZE);
    const end = Math.ceil((offset + bytes.length) / PCI_MSIX_ENTRY_SIZE);
    this.#flush(first, end);
    this.changed(first, end);
  }

  /** Sends what became deliverable of the vectors in [first, end). */
  #flush(first: number, end: number): void {
    for (let vector = first; vector < end; vector++) {
      if (!this.#isPending(vector)) continue;
      const message = this.deliverable(vector);
      if (!message) continue;
      this.#setPending(vector, false);
      this.deliver(vector, message);
    }
  }

  #masked(vector: number): boolean {
    return (
      this.#maskAll ||
      this.#entries[vector * PCI_MSIX_ENTRY_SIZE + VECTOR_CONTROL] === VECTOR_MASKED
    );
  }

  #isPending(vector: number): boolean {
    return (((this.#pending[vector >> 3] ?? 0) >> (vector & 7)) & 1) === 1;
  }

  #setPending(vector: number, pending: boolean): void {
    const bit = 1 << (vector & 7);
    const byte = this.#pending[vector >> 3] ?? 0;
    this.#pending[vector >> 3] = pending ? byte | bit : byte & ~bit;
  }
}
