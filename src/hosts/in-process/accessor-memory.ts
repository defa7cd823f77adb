import { VvuError } from '../../errors.js';
import type { GuestMemory } from '../../virtio/ports.js';
import type { Guard } from './failures.js';
import type { MemoryAccessor } from './options.js';

/**
 * Guest memory through a hypervisor's own accessor. The guest's processor and this device share a
 * thread, so program order is the order that both see, and a fence has nothing to do.
 */
export class AccessorMemory implements GuestMemory {
  constructor(
    private readonly accessor: MemoryAccessor,
    private readonly guard: Guard,
  ) {}

  read(iova: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    this.readInto(iova, bytes);
    return bytes;
  }

  readInto(iova: number, target: Uint8Array): void {
    if (!this.guard(() => this.accessor.read(iova, target))) throw unmapped(iova, 'readable');
  }

  write(iova: number, bytes: Uint8Array): void {
    if (!this.guard(() => this.accessor.write(iova, bytes))) throw unmapped(iova, 'writable');
  }

  loadU16(iova: number): number {
    return this.read(iova, 2).readUInt16LE(0);
  }

  storeU16(iova: number, value: number): void {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16LE(value, 0);
    this.write(iova, bytes);
  }

  loadU32(iova: number): number {
    return this.read(iova, 4).readUInt32LE(0);
  }

  storeU32(iova: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value, 0);
    this.write(iova, bytes);
  }

  fence(): void {
    return undefined;
  }
}

function unmapped(iova: number, access: string): VvuError {
  const what = `address 0x${iova.toString(16)} is not mapped (${access})`;
  return new VvuError('DMA_UNMAPPED', 'device', what);
}
