/**
 * rxq and txq of the driver: one vhost-user message per buffer, in DMA memory that each queue owns.
 */
import { VvuError } from '../errors.js';
import { DriverQueue, placeQueue, queueBytes } from '../virtio/split-queue-driver.js';
import type { QueueConfig } from '../virtio/ports.js';
import type { DmaBuffer, PciAccess } from './pci-access.js';

/** Room for the longest message that may pass (12 + 4,096 bytes), with space to grow. */
export const MESSAGE_BUFFER_BYTES = 4608;

const PAGE = 4096;

/** The ring and one buffer per descriptor. */
abstract class MessageQueue {
  protected readonly queue: DriverQueue<number>;
  private readonly dma: DmaBuffer;
  private readonly buffers: number;

  constructor(
    access: PciAccess,
    index: number,
    size: number,
    features: bigint,
    /** Available-buffer notification. */
    private readonly notify: () => void,
  ) {
    const ringBytes = Math.ceil(queueBytes(size) / PAGE) * PAGE;
    this.dma = access.allocateDma(ringBytes + size * MESSAGE_BUFFER_BYTES);
    this.buffers = this.dma.iova + ringBytes;
    this.queue = new DriverQueue(this.dma.memory, placeQueue(index, size, this.dma.iova), features);
  }

  /** What the device has to be told. */
  get config(): QueueConfig {
    return this.queue.config;
  }

  /** Frees the memory. The device must have been reset. */
  free(): void {
    this.queue.detachAll();
    this.dma.free();
  }

  protected address(buffer: number): number {
    return this.buffers + buffer * MESSAGE_BUFFER_BYTES;
  }

  protected read(buffer: number, length: number): Buffer {
    return this.dma.memory.read(this.address(buffer), length);
  }

  protected write(buffer: number, bytes: Uint8Array): void {
    this.dma.memory.write(this.address(buffer), bytes);
  }

  protected publish(): void {
    if (this.queue.publish()) this.notify();
  }
}

/** Device to driver. */
export class ReceiveQueue extends MessageQueue {
  /** An interrupt was asked for and no message was taken since. */
  private armed = false;

  /** Gives all buffers to the device; to be called after DRIVER_OK. */
  fill(): void {
    for (let buffer = 0; buffer < this.config.size; buffer++) this.give(buffer);
    this.publish();
  }

  /**
   * Copies the next message and returns its buffer to the device.
   * @throws VvuError of scope `device` when the device broke the ring
   */
  take(): Buffer | undefined {
    const used = this.queue.poll();
    if (used === undefined) return undefined;
    this.armed = false;
    const bytes = this.read(used.token, used.written);
    this.give(used.token);
    this.publish();
    return bytes;
  }

  /** Throws away what has arrived; at most one queue full. */
  discard(): number {
    let count = 0;
    while (count < this.config.size && this.take() !== undefined) count++;
    return count;
  }

  /** @returns true when messages arrived in the meantime: take them now */
  enableInterrupts(): boolean {
    if (this.armed) return false;
    this.armed = true;
    return this.queue.enableInterrupts();
  }

  disableInterrupts(): void {
    this.queue.disableInterrupts();
  }

  private give(buffer: number): void {
    this.queue.add([], [{ iova: this.address(buffer), length: MESSAGE_BUFFER_BYTES }], buffer);
  }
}

/** Driver to device. */
export class TransmitQueue extends MessageQueue {
  private readonly idle: number[] = [];

  constructor(...options: ConstructorParameters<typeof MessageQueue>) {
    super(...options);
    for (let buffer = this.config.size - 1; buffer >= 0; buffer--) this.idle.push(buffer);
    this.queue.disableInterrupts();
  }

  /** Whether `send` would succeed so many times. */
  hasRoom(messages = 1): boolean {
    if (this.idle.length < messages) this.reclaim();
    return this.idle.length >= messages;
  }

  /** @returns false when the device still holds every buffer */
  send(message: Uint8Array): boolean {
    if (message.length === 0 || message.length > MESSAGE_BUFFER_BYTES) {
      throw new VvuError('MESSAGE_SIZE', 'bug', `message of ${message.length} bytes`);
    }
    if (!this.hasRoom()) return false;
    const buffer = this.idle.pop();
    if (buffer === undefined) return false;
    this.write(buffer, message);
    this.queue.add([{ iova: this.address(buffer), length: message.length }], [], buffer);
    this.publish();
    return true;
  }

  private reclaim(): void {
    for (let used = this.queue.poll(); used !== undefined; used = this.queue.poll()) {
      this.idle.push(used.token);
    }
  }
}
