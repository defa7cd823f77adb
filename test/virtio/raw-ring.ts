import type { QueueConfig } from '../../src/virtio/ports.js';
import { FakeMemory } from './fake-memory.js';

/**
 * A ring written by hand with the offsets of virtio 1.3 §2.7.5, §2.7.6 and §2.7.8, independent of
 * the code under test: descriptors at 0x1000, avail at 0x2000, used at 0x3000, data from 0x4000.
 */
export class RawRing {
  readonly memory = new FakeMemory(0x10000);
  readonly config: QueueConfig;

  constructor(readonly size: number) {
    this.config = {
      index: 0,
      size,
      descriptorArea: 0x1000,
      driverArea: 0x2000,
      deviceArea: 0x3000,
    };
  }

  /** `address` may exceed what a number holds exactly. */
  descriptor(index: number, address: bigint, length: number, flags: number, next = 0): void {
    this.rawDescriptor(0x1000 + index * 16, address, length, flags, next);
  }

  rawDescriptor(at: number, address: bigint, length: number, flags: number, next = 0): void {
    const { bytes } = this.memory;
    bytes.writeBigUInt64LE(address, at);
    bytes.writeUInt32LE(length, at + 8);
    bytes.writeUInt16LE(flags, at + 12);
    bytes.writeUInt16LE(next, at + 14);
  }

  availFlags(value: number): void {
    this.memory.bytes.writeUInt16LE(value, 0x2000);
  }

  availIndex(value: number): void {
    this.memory.bytes.writeUInt16LE(value, 0x2002);
  }

  availEntry(slot: number, head: number): void {
    this.memory.bytes.writeUInt16LE(head, 0x2004 + 2 * slot);
  }

  usedEvent(value: number): void {
    this.memory.bytes.writeUInt16LE(value, 0x2004 + 2 * this.size);
  }

  usedFlags(): number {
    return this.memory.bytes.readUInt16LE(0x3000);
  }

  usedIndex(): number {
    return this.memory.bytes.readUInt16LE(0x3002);
  }

  usedElement(slot: number): { id: number; length: number } {
    const at = 0x3004 + 8 * slot;
    return {
      id: this.memory.bytes.readUInt32LE(at),
      length: this.memory.bytes.readUInt32LE(at + 4),
    };
  }

  availEvent(): number {
    return this.memory.bytes.readUInt16LE(0x3004 + 8 * this.size);
  }
}
