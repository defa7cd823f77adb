import type {
  Binding,
  DmaBuffer,
  InterruptHandle,
  IntxInterrupt,
  PciAccess,
  WindowAccess,
} from '../../src/guest/pci-access.js';
import { SplitQueue, readChain, writeChain } from '../../src/virtio/split-queue.js';
import { FakeMemory } from '../virtio/fake-memory.js';

const DMA_BASE = 0x10_0000;
const DMA_BYTES = 2 * 1024 * 1024;
export const WINDOW_BYTES = 0x10_0000;

/**
 * Capabilities of the `split` layout, by hand: struct virtio_pci_cap (virtio 1.3 §4.1.4) is id, next,
 * len, cfg_type, bar, 3 bytes, le32 offset, le32 length; 2 and 6 are followed by le32 multiplier.
 */
const CAPABILITIES: readonly (readonly [number, string])[] = [
  [0x40, '0950' + '1001' + '00000000' + '00000000' + '38000000'],
  [0x50, '0968' + '1402' + '00000000' + '00100000' + '08000000' + '04000000'],
  [0x68, '0978' + '1003' + '00000000' + '00200000' + '01000000'],
  [0x78, '0988' + '1004' + '00000000' + '00300000' + '18000000'],
  [0x88, '09a0' + '1406' + '02000000' + '00000000' + '14000000' + '04000000'],
  [0xa0, '09b0' + '1007' + '02000000' + '00100000' + '04000000'],
  [0xb0, '0900' + '1008' + '04000000' + '00000000' + '00001000'],
];

const BAR_SIZES = [0x4000, 0, 0x2000, 0, WINDOW_BYTES, 0];

interface QueueRegisters {
  size: number;
  vector: number;
  enabled: boolean;
  /** le64 desc, driver, device. */
  readonly addresses: Buffer;
  queue: SplitQueue | undefined;
}

/**
 * A small virtio-vhost-user function for driver tests: register semantics written down from virtio
 * 1.3 §4.1.4.3, with the test in the place of the tunnel.
 */
export class FakeDevice implements PciAccess {
  readonly config = Buffer.alloc(256);
  readonly dma = new FakeMemory(DMA_BYTES, DMA_BASE);
  readonly window = new FakeMemory(WINDOW_BYTES);
  readonly uuid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  /** Doorbell writes in order. */
  readonly rung: number[] = [];
  /** Vector of each kick notification. */
  readonly kickVectors = new Map<number, number>();
  readonly vectors = new Set<number>();
  /** Eventfds whose signals ring a doorbell. */
  readonly bindings = new Set<{ readonly eventfd: number; readonly ring: () => void }>();
  /** What `file` of the window answers. */
  windowFile: WindowAccess['file'] = () => undefined;
  windowRemaps = true;
  /** What the ISR register reads, once. */
  isr = 0;
  vectorCount = 4;
  intx: IntxInterrupt | undefined;
  maxVhostQueues = 4;
  features = (1n << 32n) | (1n << 29n);
  refuseFeatures = false;
  /** virtio-vhost-user config status. */
  linkStatus = 0;
  deviceStatus = 0;
  resets = 0;
  registerReads = 0;
  private readonly queues: QueueRegisters[] = [0, 1].map(() => emptyQueue());
  private readonly selects = { device: 0, driver: 0, queue: 0, kick: 0 };
  private driverFeatures = [0, 0];
  private configVector = 0xffff;
  private nextDma = DMA_BASE;

  constructor() {
    this.config.writeUInt16LE(0x1af4, 0);
    this.config.writeUInt16LE(1 << 4, 6);
    this.config.writeUInt8(0x40, 0x34);
    for (const [at, hex] of CAPABILITIES) this.config.set(Buffer.from(hex, 'hex'), at);
  }

  /** Puts a message into rxq; false when there is no buffer. */
  toDriver(message: Uint8Array): boolean {
    const queue = this.queues[0]!.queue!;
    const chain = queue.pop();
    if (chain === undefined) return false;
    queue.push(chain, writeChain(this.dma, chain, message));
    queue.flush();
    return true;
  }

  /** Takes what the driver put into txq. */
  fromDriver(): Buffer[] {
    const queue = this.queues[1]!.queue!;
    const messages: Buffer[] = [];
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      messages.push(readChain(this.dma, chain, 1 << 16));
      queue.push(chain, 0);
    }
    queue.flush();
    return messages;
  }

  /** A frontend connects: MASTER_UP. */
  connect(): void {
    if ((this.linkStatus & 1) === 0) throw new Error('the backend is not up');
    this.linkStatus = 3;
  }

  /** The frontend leaves: both bits are cleared. */
  disconnect(): void {
    this.linkStatus = 0;
  }

  /** For tests that corrupt the device's side of a ring. */
  usedRing(index: number): number {
    return Number(this.queues[index]!.addresses.readBigUInt64LE(16));
  }

  configRead(offset: number, length: number): Buffer {
    return Buffer.from(this.config.subarray(offset, offset + length));
  }

  configWrite(offset: number, bytes: Uint8Array): void {
    this.config.set(bytes, offset);
  }

  barSize(bar: number): number {
    return BAR_SIZES[bar] ?? 0;
  }

  barRead(bar: number, offset: number, length: number): Buffer {
    this.registerReads++;
    const bytes = Buffer.alloc(8);
    if (bar === 0 && offset < 0x38) this.readCommon(offset, bytes);
    else if (bar === 0 && offset >= 0x3000 && offset < 0x3018) {
      const image = Buffer.alloc(32);
      image.writeUInt32LE(this.linkStatus, 0);
      image.writeUInt32LE(this.maxVhostQueues, 4);
      image.set(this.uuid, 8);
      image.copy(bytes, 0, offset - 0x3000, offset - 0x3000 + length);
    } else if (bar === 0 && offset === 0x2000) {
      bytes.writeUInt8(this.isr);
      this.isr = 0;
    } else if (bar === 2 && offset === 0x1002) {
      bytes.writeUInt16LE(this.kickVectors.get(this.selects.kick) ?? 0xffff);
    }
    return bytes.subarray(0, length);
  }

  barWrite(bar: number, offset: number, data: Uint8Array): void {
    const value = Buffer.from(data).readUIntLE(0, data.length);
    if (bar === 0 && offset < 0x38) this.writeCommon(offset, value);
    else if (bar === 0 && offset === 0x3000) this.linkStatus = value & 1 ? this.linkStatus | 1 : 0;
    else if (bar === 2 && offset < 0x14) this.rung.push(offset / 4);
    else if (bar === 2 && offset === 0x1000) this.selects.kick = value;
    else if (bar === 2 && offset === 0x1002 && this.selects.kick < this.maxVhostQueues) {
      this.kickVectors.set(this.selects.kick, value);
    }
  }

  allocateDma(size: number): DmaBuffer {
    const iova = this.nextDma;
    this.nextDma += Math.ceil(size / 4096) * 4096;
    return { iova, size, memory: this.dma, free: () => undefined };
  }

  openWindow(): WindowAccess {
    return {
      size: WINDOW_BYTES,
      memory: this.window,
      mapped: () => true,
      remaps: this.windowRemaps,
      orByte: (offset, bits) => {
        const before = this.window.bytes[offset] ?? 0;
        this.window.bytes[offset] = before | bits;
        return before;
      },
      file: (offset, length) => this.windowFile(offset, length),
    };
  }

  storeOnSignal(eventfd: number, bar: number, offset: number, bytes: Uint8Array): Binding {
    const binding = { eventfd, ring: () => this.barWrite(bar, offset, bytes) };
    this.bindings.add(binding);
    return { close: () => void this.bindings.delete(binding) };
  }

  enableVector(vector: number): InterruptHandle {
    this.vectors.add(vector);
    return { eventfd: 1000 + vector };
  }

  disableVectors(): void {
    this.vectors.clear();
  }

  reset(): void {
    this.deviceReset();
  }

  close(): void {
    this.deviceReset();
  }

  private deviceReset(): void {
    this.resets++;
    this.deviceStatus = 0;
    this.linkStatus = 0;
    this.nextDma = DMA_BASE;
    this.queues.splice(0, 2, emptyQueue(), emptyQueue());
  }

  private readCommon(offset: number, bytes: Buffer): void {
    const queue = this.queues[this.selects.queue];
    const words: Record<number, number> = {
      0x04: Number((this.features >> BigInt(32 * this.selects.device)) & 0xffffffffn),
      0x10: this.configVector,
      0x12: 2,
      0x14: this.deviceStatus,
      0x15: 0,
      0x18: queue?.size ?? 0,
      0x1a: queue?.vector ?? 0xffff,
      0x1e: this.selects.queue,
    };
    bytes.writeUInt32LE(words[offset] ?? 0);
  }

  private writeCommon(offset: number, value: number): void {
    const queue = this.queues[this.selects.queue];
    if (offset === 0x00) this.selects.device = value;
    else if (offset === 0x08) this.selects.driver = value;
    else if (offset === 0x0c) this.driverFeatures[this.selects.driver] = value;
    else if (offset === 0x10) this.configVector = value < this.vectorCount ? value : 0xffff;
    else if (offset === 0x14) this.writeStatus(value);
    else if (offset === 0x16) this.selects.queue = value;
    else if (queue === undefined) return;
    else if (offset === 0x18) queue.size = value;
    else if (offset === 0x1a) queue.vector = value;
    else if (offset === 0x1c) queue.enabled = value === 1;
    else if (offset >= 0x20) queue.addresses.writeUInt32LE(value, offset - 0x20);
  }

  private writeStatus(value: number): void {
    if (value === 0) {
      this.deviceReset();
      return;
    }
    this.deviceStatus = value;
    if ((value & 8) !== 0 && this.refuseFeatures) this.deviceStatus &= ~8;
    if ((value & 4) === 0) return;
    const features = BigInt(this.driverFeatures[0]!) | (BigInt(this.driverFeatures[1]!) << 32n);
    this.queues.forEach((queue, index) => {
      queue.queue ??= new SplitQueue(
        this.dma,
        {
          index,
          size: queue.size,
          descriptorArea: Number(queue.addresses.readBigUInt64LE(0)),
          driverArea: Number(queue.addresses.readBigUInt64LE(8)),
          deviceArea: Number(queue.addresses.readBigUInt64LE(16)),
        },
        features,
      );
    });
  }
}

function emptyQueue(): QueueRegisters {
  return {
    size: 128,
    vector: 0xffff,
    enabled: false,
    addresses: Buffer.alloc(24),
    queue: undefined,
  };
}
