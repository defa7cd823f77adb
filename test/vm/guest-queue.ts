import type { GuestBuffer } from './guest-memory.js';
import type { GuestVirtio } from './guest-virtio.js';

const SIZE = 8;
/** Queue areas inside the page that a queue occupies, and where its buffers begin. */
const AVAIL = 0x100;
const USED = 0x200;
const DATA = 0x400;
/** Room for SIZE buffers in what is left of the page. */
export const BUFFER_SIZE = 256;

const NEXT = 0;
const WRITE = 2;

/**
 * A split virtqueue of eight descriptors, each with its own small buffer, all in one page.
 *
 * It is written from the specification (virtio 1.3 §2.7) with plain byte offsets, and shares
 * nothing with the project's own rings: this is what a foreign driver does to them.
 */
export class GuestQueue {
  #availIndex = 0;
  #usedIndex = 0;

  private constructor(
    readonly device: GuestVirtio,
    readonly index: number,
    readonly memory: GuestBuffer,
    readonly offset: number,
    /** Where the buffers are, from `offset` on. */
    readonly data: number,
  ) {}

  /**
   * Sets the queue up in the page of `memory` that begins at `offset`, and enables it;
   * `address` is that page's address for the device. The buffers are in the same page, unless
   * `data` says how far behind the page's beginning they are.
   */
  static async create(
    device: GuestVirtio,
    index: number,
    memory: GuestBuffer,
    place: { offset: number; address: bigint; vector: number; data?: number },
  ): Promise<GuestQueue> {
    const { offset, address, vector, data = DATA } = place;
    const queue = new GuestQueue(device, index, memory, offset, data);
    await memory.write(offset, Buffer.alloc(DATA));
    await device.set('queueSelect', index);
    await device.set('queueSize', SIZE);
    await device.set('queueMsixVector', vector);
    if ((await device.get('queueMsixVector')) !== vector) throw new Error('vector not taken');
    await device.set('queueDesc', address);
    await device.set('queueDriver', address + BigInt(AVAIL));
    await device.set('queueDevice', address + BigInt(USED));
    await device.set('queueEnable', 1);
    for (let slot = 0; slot < SIZE; slot++) {
      const descriptor = Buffer.alloc(8);
      descriptor.writeBigUInt64LE(address + BigInt(queue.#data(slot)));
      await memory.write(offset + 16 * slot, descriptor);
    }
    return queue;
  }

  /**
   * The same queue in the VM that this one was migrated to, as it was before `used` returned the
   * last `again` buffers.
   */
  on(device: GuestVirtio, memory: GuestBuffer, again: number): GuestQueue {
    const queue = new GuestQueue(device, this.index, memory, this.offset, this.data);
    queue.#availIndex = this.#availIndex;
    queue.#usedIndex = this.#usedIndex - again;
    return queue;
  }

  /** Offers a buffer for the device to write into. */
  async offer(length = BUFFER_SIZE): Promise<void> {
    await this.#publish(length, WRITE);
  }

  /** Offers a buffer for the device to read. */
  async send(bytes: Uint8Array): Promise<void> {
    await this.memory.write(this.offset + this.#data(this.#availIndex % SIZE), bytes);
    await this.#publish(bytes.length, NEXT);
  }

  /** The next buffer that the device used, or undefined when none is within `timeout` ms. */
  async used(timeout: number): Promise<Buffer | undefined> {
    const at = this.offset + USED;
    const expected = this.#usedIndex & 0xffff;
    const index = await this.memory.change(at + 2, 2, expected, timeout);
    if (index === expected) return undefined;
    const element = await this.memory.read(at + 4 + 8 * (this.#usedIndex % SIZE), 8);
    this.#usedIndex++;
    const data = this.offset + this.#data(element.readUInt32LE(0));
    return this.memory.read(data, element.readUInt32LE(4));
  }

  async #publish(length: number, flags: number): Promise<void> {
    const slot = this.#availIndex % SIZE;
    const rest = Buffer.alloc(8);
    rest.writeUInt32LE(length, 0);
    rest.writeUInt16LE(flags, 4);
    await this.memory.write(this.offset + 16 * slot + 8, rest);
    const head = Buffer.alloc(2);
    head.writeUInt16LE(slot);
    await this.memory.write(this.offset + AVAIL + 4 + 2 * slot, head);
    this.#availIndex++;
    const index = Buffer.alloc(2);
    index.writeUInt16LE(this.#availIndex & 0xffff);
    await this.memory.write(this.offset + AVAIL + 2, index);
    await this.device.notify(this.index);
  }

  #data(slot: number): number {
    return this.data + slot * BUFFER_SIZE;
  }
}
