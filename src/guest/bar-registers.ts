/** Loads and stores of the registers of one mapped BAR. */
import { VvuError } from '../errors.js';
import type { Native, NativeMemory } from '../native.js';
import type { Binding } from './pci-access.js';

/** A BAR in a file: a VFIO device's fd, or a sysfs resource file. */
export interface BarFile {
  /** Owned by whoever opened it. */
  readonly fd: number;
  /** Where the BAR starts in the file. */
  readonly offset: number;
}

/** Owns the mapping, not the fd. */
export class BarRegisters {
  constructor(
    private readonly native: Native,
    private readonly memory: NativeMemory,
    private readonly file: BarFile,
  ) {}

  /** @throws VvuError `DEVICE_GONE`, scope `setup` */
  read(offset: number, length: number): Buffer {
    checkRegister(offset, length);
    const bytes = Buffer.allocUnsafe(length);
    // One naturally aligned load: see Native.map's accesses of 1, 2, 4 and 8 bytes.
    this.memory.readInto(offset, bytes);
    this.checkThere();
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    checkRegister(offset, bytes.length);
    this.memory.write(offset, bytes);
    this.checkThere();
  }

  storeOnSignal(eventfd: number, offset: number, bytes: Uint8Array): Binding {
    checkRegister(offset, bytes.length);
    if (offset + bytes.length > this.memory.size) throw outside(offset);
    return this.native.relayStore(eventfd, this.file.fd, this.file.offset + offset, bytes);
  }

  close(): void {
    this.memory.release();
  }

  private checkThere(): void {
    if (this.memory.poisoned) {
      throw new VvuError('DEVICE_GONE', 'setup', 'the PCI function does not answer any more');
    }
  }
}

/** @throws VvuError `REGISTER`, scope `bug`, for what is no register access */
export function checkRegister(offset: number, length: number): void {
  const width = length === 1 || length === 2 || length === 4 || length === 8;
  if (!width || !(offset >= 0) || offset % length !== 0) {
    throw new VvuError('REGISTER', 'bug', `register access of ${length} bytes at ${offset}`);
  }
}

function outside(offset: number): VvuError {
  return new VvuError('REGISTER', 'bug', `no register at ${offset}: the BAR is smaller`);
}
