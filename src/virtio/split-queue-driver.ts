/**
 * The driver's side of a split virtqueue (virtio 1.3 §2.7): for the guest driver's own queues and
 * for the built-in frontend's rings.
 *
 * The device is not trusted: descriptors are never read back from shared memory, and whatever the
 * used ring says is checked against what was handed out.
 */
import { VvuError } from '../errors.js';
import type { GuestMemory, Iova, QueueConfig } from './ports.js';
import {
  DESCRIPTOR_BYTES,
  INDEX_OFFSET,
  RING_OFFSET,
  USED_ELEMENT_BYTES,
  VIRTIO_F_EVENT_IDX,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
  availEventOffset,
  checkQueueConfig,
  descriptorAreaBytes,
  deviceAreaBytes,
  driverAreaBytes,
  needsEvent,
  usedEventOffset,
} from './ring-constants.js';
import type { Segment } from './split-queue-chain.js';

/** A buffer that the device has used. */
export interface UsedBuffer<T> {
  readonly token: T;
  /** Bytes that the device wrote, at most the length of the writable part. */
  readonly written: number;
}

interface InFlight<T> {
  readonly token: T;
  readonly descriptors: number;
  readonly writableLength: number;
}

/** Marks the end of the list of free descriptors. */
const NONE = -1;

const align = (value: number, to: number): number => Math.ceil(value / to) * to;

/** Bytes that {@link placeQueue} needs for a queue of `size`. */
export function queueBytes(size: number): number {
  const used = align(descriptorAreaBytes(size) + driverAreaBytes(size), 4);
  return used + deviceAreaBytes(size);
}

/** Lays the three parts of a queue out one after the other from `base`, which is 16-byte aligned. */
export function placeQueue(index: number, size: number, base: Iova): QueueConfig {
  const driverArea = base + descriptorAreaBytes(size);
  return {
    index,
    size,
    descriptorArea: base,
    driverArea,
    deviceArea: align(driverArea + driverAreaBytes(size), 4),
  };
}

/** `T` is whatever the caller wants back with the used buffer. */
export class DriverQueue<T> {
  readonly config: QueueConfig;
  private readonly memory: GuestMemory;
  private readonly mask: number;
  private readonly eventIndex: boolean;
  private readonly inFlight: (InFlight<T> | undefined)[];
  /** Next descriptor in the free list, or in the chain that the descriptor belongs to. */
  private readonly next: Int32Array;
  private readonly scratch = Buffer.alloc(DESCRIPTOR_BYTES);
  private readonly element = Buffer.alloc(USED_ELEMENT_BYTES);
  private freeHead = 0;
  private freeCount: number;
  private nextAvail = 0;
  private publishedAvail = 0;
  private nextUsed = 0;
  private seenUsed = 0;
  private outstanding = 0;

  /** Zeroes the queue's memory. `config` comes from {@link placeQueue}. */
  constructor(memory: GuestMemory, config: QueueConfig, features: bigint) {
    checkQueueConfig(config);
    this.memory = memory;
    this.config = config;
    this.mask = config.size - 1;
    this.eventIndex = (features & VIRTIO_F_EVENT_IDX) !== 0n;
    this.inFlight = new Array<InFlight<T> | undefined>(config.size).fill(undefined);
    this.next = Int32Array.from({ length: config.size }, (_, i) => i + 1);
    this.next[config.size - 1] = NONE;
    this.freeCount = config.size;
    memory.write(config.descriptorArea, Buffer.alloc(descriptorAreaBytes(config.size)));
    memory.write(config.driverArea, Buffer.alloc(driverAreaBytes(config.size)));
    memory.write(config.deviceArea, Buffer.alloc(deviceAreaBytes(config.size)));
  }

  /** Free descriptors: a buffer needs one per segment. */
  get free(): number {
    return this.freeCount;
  }

  /** Buffers that the device holds. */
  get pending(): number {
    return this.outstanding;
  }

  /**
   * Hands a buffer to the device; it sees it after `publish`.
   * @returns false when there are too few free descriptors
   */
  add(readable: readonly Segment[], writable: readonly Segment[], token: T): boolean {
    const descriptors = readable.length + writable.length;
    if (descriptors === 0) throw new VvuError('EMPTY_BUFFER', 'bug', 'a buffer needs a segment');
    if (descriptors > this.freeCount) return false;
    const head = this.freeHead;
    let writableLength = 0;
    for (let i = 0; i < descriptors; i++) {
      const write = i >= readable.length;
      const segment = write ? writable[i - readable.length] : readable[i];
      if (segment === undefined) throw new VvuError('EMPTY_BUFFER', 'bug', 'segment missing');
      if (write) writableLength += segment.length;
      this.writeDescriptor(segment, write, i + 1 < descriptors);
    }
    this.freeCount -= descriptors;
    this.inFlight[head] = { token, descriptors, writableLength };
    this.outstanding++;
    const slot = this.config.driverArea + RING_OFFSET + 2 * (this.nextAvail & this.mask);
    this.memory.storeU16(slot, head);
    this.nextAvail = (this.nextAvail + 1) & 0xffff;
    return true;
  }

  /** Fills the first free descriptor and takes it off the free list. */
  private writeDescriptor(segment: Segment, write: boolean, more: boolean): void {
    const index = this.freeHead;
    const next = this.next[index] ?? NONE;
    this.scratch.writeUInt32LE(segment.iova >>> 0, 0);
    this.scratch.writeUInt32LE(Math.floor(segment.iova / 2 ** 32), 4);
    this.scratch.writeUInt32LE(segment.length, 8);
    this.scratch.writeUInt16LE(
      (write ? VIRTQ_DESC_F_WRITE : 0) | (more ? VIRTQ_DESC_F_NEXT : 0),
      12,
    );
    // The free list is also the order of the chain, so its links serve as the chain's.
    this.scratch.writeUInt16LE(more ? next : 0, 14);
    this.memory.write(this.config.descriptorArea + index * DESCRIPTOR_BYTES, this.scratch);
    this.freeHead = next;
  }

  /**
   * Shows the added buffers to the device.
   * @returns whether the device has to be kicked (available-buffer notification)
   */
  publish(): boolean {
    const previous = this.publishedAvail;
    if (this.nextAvail === previous) return false;
    this.memory.storeU16(this.config.driverArea + INDEX_OFFSET, this.nextAvail);
    this.publishedAvail = this.nextAvail;
    // §2.7.10.2: the index must be visible before the device's wish is read.
    this.memory.fence();
    if (!this.eventIndex) {
      return (this.memory.loadU16(this.config.deviceArea) & VIRTQ_USED_F_NO_NOTIFY) === 0;
    }
    const at = this.config.deviceArea + availEventOffset(this.config.size);
    return needsEvent(this.memory.loadU16(at), this.nextAvail, previous);
  }

  /**
   * Takes the next used buffer, or undefined when there is none.
   * @throws VvuError `USED_INDEX`, `USED_ID` or `USED_LENGTH`, scope `device`: the device is broken
   */
  poll(): UsedBuffer<T> | undefined {
    if (this.seenUsed === this.nextUsed && this.usedCount() === 0) return undefined;
    const slot = (this.nextUsed & this.mask) * USED_ELEMENT_BYTES;
    this.memory.readInto(this.config.deviceArea + RING_OFFSET + slot, this.element);
    const id = this.element.readUInt32LE(0);
    const written = this.element.readUInt32LE(4);
    const entry = id < this.config.size ? this.inFlight[id] : undefined;
    if (entry === undefined) {
      throw new VvuError('USED_ID', 'device', `used id ${id} is not in flight`);
    }
    if (written > entry.writableLength) {
      throw new VvuError(
        'USED_LENGTH',
        'device',
        `used length ${written} of a buffer of ${entry.writableLength} bytes`,
      );
    }
    this.release(id, entry);
    this.nextUsed = (this.nextUsed + 1) & 0xffff;
    return { token: entry.token, written };
  }

  private usedCount(): number {
    const index = this.memory.loadU16(this.config.deviceArea + INDEX_OFFSET);
    const count = (index - this.nextUsed) & 0xffff;
    if (count > this.outstanding) {
      throw new VvuError(
        'USED_INDEX',
        'device',
        `used.idx ${index} after ${this.nextUsed} with ${this.outstanding} in flight`,
      );
    }
    this.seenUsed = index;
    return count;
  }

  private release(head: number, entry: InFlight<T>): void {
    let tail = head;
    for (let i = 1; i < entry.descriptors; i++) tail = this.next[tail] ?? NONE;
    this.next[tail] = this.freeHead;
    this.freeHead = head;
    this.freeCount += entry.descriptors;
    this.inFlight[head] = undefined;
    this.outstanding--;
  }

  /**
   * Asks for a notification of the next used buffer.
   * @returns true when buffers were used in the meantime: poll again instead of waiting
   */
  enableInterrupts(): boolean {
    if (this.eventIndex) {
      const at = this.config.driverArea + usedEventOffset(this.config.size);
      this.memory.storeU16(at, this.nextUsed);
    } else {
      this.memory.storeU16(this.config.driverArea, 0);
    }
    this.memory.fence();
    return this.usedCount() > 0;
  }

  /** Asks for no notifications; a hint only (§2.7.7.1). */
  disableInterrupts(): void {
    if (!this.eventIndex) {
      this.memory.storeU16(this.config.driverArea, VIRTQ_AVAIL_F_NO_INTERRUPT);
    }
  }

  /** Takes back every buffer that the device still holds. Only after the device was reset. */
  detachAll(): T[] {
    const tokens: T[] = [];
    for (const [head, entry] of this.inFlight.entries()) {
      if (entry === undefined) continue;
      this.release(head, entry);
      tokens.push(entry.token);
    }
    return tokens;
  }
}
