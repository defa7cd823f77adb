import { RawQueue, type RawMemory } from './raw-queue.js';

/** Where all layouts have the virtio structures in BAR 0. */
export const COMMON = 0;
export const ISR = 0x1000;
export const DEVICE_CONFIG = 0x2000;
export const NOTIFY = 0x3000;
/** Offsets in `struct virtio_pci_common_cfg` (virtio 1.3 §4.1.4.3). */
export const DRIVER_FEATURE_SELECT = 0x08;
export const DRIVER_FEATURE = 0x0c;
export const CONFIG_VECTOR = 0x10;
export const STATUS = 0x14;
export const QUEUE_SELECT = 0x16;
export const QUEUE_SIZE = 0x18;
export const QUEUE_VECTOR = 0x1a;
export const QUEUE_ENABLE = 0x1c;
export const QUEUE_DESC = 0x20;
export const QUEUE_DRIVER = 0x28;
export const QUEUE_DEVICE = 0x30;
export const QUEUE_RESET = 0x3a;

/** Bytes that a driver uses. */
export const MEMORY_BYTES = 1024 * 1024;
const QUEUE_STRIDE = 0x4000;
const DATA = 0x10_000;
/** ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK one after the other. */
const STATUS_STEPS = [0x01, 0x03, 0x0b];
const RUNNING = 0x0f;
const NEEDS_RESET = 0x40;

export interface GuestSetup {
  /** Upper feature word; VERSION_1 is bit 0, RING_RESET bit 8. */
  readonly featuresHigh?: number;
  /** Lower feature word; INDIRECT_DESC is bit 28, EVENT_IDX bit 29. */
  readonly featuresLow?: number;
  readonly queueSize?: number;
  /** Buffers of this many bytes that rxq gets, one per descriptor; 0 for none. */
  readonly rxBuffer?: number;
}

/** Loads and stores of a guest, of up to 4 bytes. */
export interface RawRegisters {
  read(bar: number, offset: number, width: number): number;
  write(bar: number, offset: number, width: number, value: number): void;
}

/**
 * A driver that does by hand, register for register, what one does, and what it must not do. The
 * virtio structures are where all layouts have them.
 */
export class RawDriver implements RawRegisters {
  readonly rxq: RawQueue;
  readonly txq: RawQueue;
  #sent = 0;

  constructor(
    private readonly registers: RawRegisters,
    /** What the device can reach: 1 MiB from address `base` on. */
    readonly memory: RawMemory,
    readonly base: number,
  ) {
    this.rxq = new RawQueue(memory, base, 0);
    this.txq = new RawQueue(memory, base, QUEUE_STRIDE);
  }

  read(bar: number, offset: number, width: number): number {
    return this.registers.read(bar, offset, width);
  }

  write(bar: number, offset: number, width: number, value: number): void {
    this.registers.write(bar, offset, width, value);
  }

  get status(): number {
    return this.read(0, STATUS, 1);
  }

  set status(value: number) {
    this.write(0, STATUS, 1, value);
  }

  get needsReset(): boolean {
    return (this.status & NEEDS_RESET) !== 0;
  }

  /** SLAVE_UP and MASTER_UP. */
  get linkStatus(): number {
    return this.read(0, DEVICE_CONFIG, 4);
  }

  set linkStatus(value: number) {
    this.write(0, DEVICE_CONFIG, 4, value);
  }

  /** From reset to DRIVER_OK. */
  start(setup: GuestSetup = {}): void {
    this.negotiate(setup);
    for (const [index, queue] of [this.rxq, this.txq].entries()) {
      this.enable(index, queue, setup.queueSize ?? 64);
    }
    this.fillRxq(setup.rxBuffer ?? 1024);
    this.status = RUNNING;
  }

  /** From reset to FEATURES_OK. */
  negotiate({ featuresHigh = 1, featuresLow = 0 }: GuestSetup = {}): void {
    this.status = 0;
    for (const status of STATUS_STEPS.slice(0, 2)) this.status = status;
    this.write(0, DRIVER_FEATURE_SELECT, 4, 0);
    this.write(0, DRIVER_FEATURE, 4, featuresLow);
    this.write(0, DRIVER_FEATURE_SELECT, 4, 1);
    this.write(0, DRIVER_FEATURE, 4, featuresHigh);
    this.status = 0x0b;
  }

  /** Tells the device where a queue lies, which starts anew, and enables it. */
  enable(index: number, queue: RawQueue, size: number): void {
    queue.clear(size);
    this.write(0, QUEUE_SELECT, 2, index);
    this.write(0, QUEUE_SIZE, 2, size);
    for (const [register, address] of [
      [QUEUE_DESC, queue.descriptors],
      [QUEUE_DRIVER, queue.avail],
      [QUEUE_DEVICE, queue.used],
    ] as const) {
      this.write(0, register, 4, address);
      this.write(0, register + 4, 4, 0);
    }
    this.write(0, QUEUE_ENABLE, 2, 1);
  }

  resetQueue(index: number): void {
    this.write(0, QUEUE_SELECT, 2, index);
    this.write(0, QUEUE_RESET, 2, 1);
  }

  /** Gives one buffer per descriptor to rxq, without a notification. */
  fillRxq(bytes: number): void {
    if (bytes === 0) return;
    for (let i = 0; i < this.rxq.size; i++) {
      this.rxq.descriptor(i, this.base + DATA + i * bytes, bytes, 2);
      this.rxq.offer(i);
    }
  }

  /** Puts a message on txq and notifies. Descriptors are used in turn. */
  send(message: Uint8Array): void {
    const head = this.#sent++ % this.txq.size;
    const at = DATA + 0x80_000 + 4096 * head;
    this.memory.write(at, message);
    this.txq.descriptor(head, this.base + at, message.length, 0);
    this.txq.offer(head);
    this.kick(1);
  }

  /** The next message on rxq; its buffer is not given back. */
  receive(): Buffer | undefined {
    const used = this.rxq.take();
    if (!used) return undefined;
    const { address } = this.rxq.read(used.id);
    return this.memory.read(address - this.base, used.length);
  }

  kick(queue: number): void {
    this.write(0, NOTIFY + 4 * queue, 2, queue);
  }
}
