import type { NativeMemory } from '../../src/native.js';

/** The driver's memory by offset. */
export type RawMemory = Pick<
  NativeMemory,
  'read' | 'write' | 'fill' | 'loadU16' | 'loadU32' | 'storeU16'
>;

const DESCRIPTORS = 0;
const AVAIL = 0x1000;
const USED = 0x2000;

/**
 * The driver's side of a split virtqueue, written by hand with the offsets of virtio 1.3 §2.7.5,
 * §2.7.6 and §2.7.8. It checks nothing, so that a test can put anything into the ring.
 */
export class RawQueue {
  size = 0;
  /** Head of the chain that was taken last. */
  last = 0;
  #available = 0;
  #taken = 0;

  /** The queue lies `offset` bytes into `memory`, whose first byte is at address `base`. */
  constructor(
    private readonly memory: RawMemory,
    private readonly base: number,
    private readonly offset: number,
  ) {}

  get descriptors(): number {
    return this.base + this.offset + DESCRIPTORS;
  }

  get avail(): number {
    return this.base + this.offset + AVAIL;
  }

  get used(): number {
    return this.base + this.offset + USED;
  }

  clear(size: number): void {
    this.size = size;
    this.#available = 0;
    this.#taken = 0;
    this.memory.fill(this.offset, USED + 0x1000, 0);
  }

  descriptor(index: number, address: number, length: number, flags: number, next = 0): void {
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64LE(BigInt(address), 0);
    bytes.writeUInt32LE(length, 8);
    bytes.writeUInt16LE(flags, 12);
    bytes.writeUInt16LE(next, 14);
    this.memory.write(this.offset + DESCRIPTORS + 16 * index, bytes);
  }

  read(index: number): { readonly address: number; readonly length: number } {
    const bytes = this.memory.read(this.offset + DESCRIPTORS + 16 * index, 16);
    return { address: Number(bytes.readBigUInt64LE(0)), length: bytes.readUInt32LE(8) };
  }

  /** Makes the chain that starts at `head` available. */
  offer(head: number): void {
    this.memory.storeU16(this.offset + AVAIL + 4 + 2 * (this.#available % this.size), head);
    this.#available = (this.#available + 1) & 0xffff;
    this.availIndex = this.#available;
  }

  set availIndex(value: number) {
    this.memory.storeU16(this.offset + AVAIL + 2, value);
  }

  get usedIndex(): number {
    return this.memory.loadU16(this.offset + USED + 2);
  }

  /** The next used element. */
  take(): { readonly id: number; readonly length: number } | undefined {
    if (this.usedIndex === this.#taken) return undefined;
    const at = this.offset + USED + 4 + 8 * (this.#taken % this.size);
    this.#taken = (this.#taken + 1) & 0xffff;
    this.last = this.memory.loadU32(at);
    return { id: this.last, length: this.memory.loadU32(at + 4) };
  }
}
