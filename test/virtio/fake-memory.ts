import { VvuError } from '../../src/errors.js';
import type { GuestMemory, Iova } from '../../src/virtio/ports.js';

/** Guest memory in a Buffer, mapped from `base` on; everything else is unmapped. */
export class FakeMemory implements GuestMemory {
  readonly bytes: Buffer;
  /** Counts fences, so that a test can ask for one. */
  fences = 0;
  /** Counts accesses, so that a test can ask for a bound. */
  accesses = 0;

  constructor(
    size: number,
    readonly base: Iova = 0,
  ) {
    this.bytes = Buffer.alloc(size);
  }

  private at(iova: Iova, length: number): number {
    this.accesses++;
    const offset = iova - this.base;
    if (!(offset >= 0 && offset + length <= this.bytes.length)) {
      throw new VvuError('DMA_UNMAPPED', 'device', `0x${iova.toString(16)} + ${length}`);
    }
    return offset;
  }

  private aligned(iova: Iova, width: number): number {
    const offset = this.at(iova, width);
    if (iova % width !== 0) throw new RangeError(`unaligned access at ${iova}`);
    return offset;
  }

  read(iova: Iova, length: number): Buffer {
    const at = this.at(iova, length);
    return Buffer.from(this.bytes.subarray(at, at + length));
  }

  readInto(iova: Iova, target: Uint8Array): void {
    const at = this.at(iova, target.length);
    target.set(this.bytes.subarray(at, at + target.length));
  }

  write(iova: Iova, bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at(iova, bytes.length));
  }

  loadU16(iova: Iova): number {
    return this.bytes.readUInt16LE(this.aligned(iova, 2));
  }

  storeU16(iova: Iova, value: number): void {
    this.bytes.writeUInt16LE(value, this.aligned(iova, 2));
  }

  loadU32(iova: Iova): number {
    return this.bytes.readUInt32LE(this.aligned(iova, 4));
  }

  storeU32(iova: Iova, value: number): void {
    this.bytes.writeUInt32LE(value, this.aligned(iova, 4));
  }

  fence(): void {
    this.fences++;
  }
}
