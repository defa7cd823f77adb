import { listCapabilities } from '../../src/guest/capabilities.js';
import {
  PCI_CAP_ID_MSIX,
  PCI_EXP_DEVCTL,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_QSIZE,
  PCI_CAP_ID_EXP,
  PCI_EXP_DEVCTL_BCR_FLR,
} from '../../src/guest/constants.js';
import { DmaPool } from '../../src/guest/dma-pool.js';
import type {
  Binding,
  DmaBuffer,
  InterruptHandle,
  PciAccess,
  WindowAccess,
} from '../../src/guest/pci-access.js';
import { WindowMemory } from '../../src/guest/window-memory.js';
import { native } from '../../src/native.js';
import { MappedMemory } from '../../src/virtio/mapped-memory.js';
import { MSI_ADDRESS, RAM, RAM_BYTES, type Machine } from './machine.js';

/** Offset of the table's place in the MSI-X capability; its low bits are the BAR. */
const MSIX_TABLE = 4;
const MSIX_ENTRY = 16;

/** A driver's way to the device of a machine: loads and stores as a processor would make them. */
export class MachineAccess implements PciAccess {
  readonly #pool: DmaPool;

  constructor(private readonly machine: Machine) {
    const ram = new MappedMemory(native);
    const backing = { memory: machine.ram, offset: 0, readable: true, writable: true };
    ram.insert(RAM, RAM_BYTES, backing);
    this.#pool = new DmaPool(ram, RAM, RAM_BYTES);
  }

  configRead(offset: number, length: number): Buffer {
    const target = Buffer.alloc(length);
    this.machine.device.configRead(offset, target);
    return target;
  }

  configWrite(offset: number, bytes: Uint8Array): void {
    this.machine.device.configWrite(offset, bytes);
  }

  barRead(bar: number, offset: number, length: number): Buffer {
    const target = Buffer.alloc(length);
    this.machine.device.barRead(bar, offset, target);
    return target;
  }

  barWrite(bar: number, offset: number, bytes: Uint8Array): void {
    const doorbell = this.machine.doorbells.get(`${bar}:${offset}`);
    if (doorbell === undefined) this.machine.device.barWrite(bar, offset, bytes);
    else native.signalEventFd(doorbell);
  }

  barSize(bar: number): number {
    return this.machine.device.bars.find(({ index }) => index === bar)?.size ?? 0;
  }

  storeOnSignal(eventfd: number, bar: number, offset: number, bytes: Uint8Array): Binding {
    return native.watchEventFd(eventfd, () => this.barWrite(bar, offset, bytes));
  }

  allocateDma(size: number): DmaBuffer {
    return this.#pool.allocate(size);
  }

  openWindow(bar: number, offset: number, length: number): WindowAccess {
    const { areas } = this.machine;
    const trapped = {
      read: (at: number, count: number) => this.barRead(bar, at, count),
      write: (at: number, bytes: Uint8Array) => this.barWrite(bar, at, bytes),
    };
    return new WindowMemory(areas, trapped, offset, length, () => native.fence());
  }

  get vectorCount(): number {
    const flags = this.configRead(this.#capability(PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS, 2);
    return (flags.readUInt16LE() & PCI_MSIX_FLAGS_QSIZE) + 1;
  }

  /** Line `vector` of the interrupt controller; the eventfd is the machine's. */
  enableVector(vector: number): InterruptHandle {
    const eventfd = this.machine.lines.get(vector) ?? native.createEventFd();
    this.machine.lines.set(vector, eventfd);
    const at = this.#capability(PCI_CAP_ID_MSIX);
    const place = this.configRead(at + MSIX_TABLE, 4).readUInt32LE();
    const entry = Buffer.alloc(MSIX_ENTRY);
    entry.writeBigUInt64LE(BigInt(MSI_ADDRESS), 0);
    entry.writeUInt32LE(vector, 8);
    const offset = (place & ~7) + MSIX_ENTRY * vector;
    for (let field = 0; field < MSIX_ENTRY; field += 4) {
      this.barWrite(place & 7, offset + field, entry.subarray(field, field + 4));
    }
    this.#enableMsix(true);
    return { eventfd };
  }

  disableVectors(): void {
    this.#enableMsix(false);
  }

  /** Function-level reset. */
  reset(): void {
    const at = this.#capability(PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
    const control = this.configRead(at, 2);
    control.writeUInt16LE(control.readUInt16LE() | PCI_EXP_DEVCTL_BCR_FLR);
    this.configWrite(at, control);
  }

  close(): void {
    this.machine.device.reset();
  }

  #enableMsix(enabled: boolean): void {
    const at = this.#capability(PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS;
    const flags = this.configRead(at, 2);
    const value = flags.readUInt16LE();
    flags.writeUInt16LE(enabled ? value | PCI_MSIX_FLAGS_ENABLE : value & ~PCI_MSIX_FLAGS_ENABLE);
    this.configWrite(at, flags);
  }

  #capability(id: number): number {
    const found = listCapabilities(this).find((capability) => capability.id === id);
    if (found === undefined) throw new Error(`no capability ${id}`);
    return found.at;
  }
}
