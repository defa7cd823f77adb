import { VIRTIO_MSI_NO_VECTOR } from '../virtio/constants.js';
import type { QueueConfig } from '../virtio/ports.js';

/** The 64-bit address fields of a queue, in the order of `struct virtio_pci_common_cfg`. */
export type QueueArea = 'queue_desc' | 'queue_driver' | 'queue_device';

interface AreaRule {
  readonly alignment: number;
  readonly bytes: (queueSize: number) => number;
}

/** Alignment and length of each part of a split virtqueue (virtio 1.3 §2.7). */
const AREAS: Readonly<Record<QueueArea, AreaRule>> = {
  queue_desc: { alignment: 16, bytes: (size) => 16 * size },
  queue_driver: { alignment: 2, bytes: (size) => 6 + 2 * size },
  queue_device: { alignment: 4, bytes: (size) => 6 + 8 * size },
};

/** What the common configuration holds for one queue. */
export class QueueState {
  size: number;
  vector = VIRTIO_MSI_NO_VECTOR;
  enabled = false;
  readonly #low = { queue_desc: 0, queue_driver: 0, queue_device: 0 };
  readonly #high = { queue_desc: 0, queue_driver: 0, queue_device: 0 };

  constructor(
    readonly index: number,
    /** 0 for a queue that does not exist at present. */
    readonly maxSize: number,
  ) {
    this.size = maxSize;
  }

  /** Device reset, or the reset of this queue: "consistent default values" (§4.1.4.3.1). */
  reset(): void {
    this.size = this.maxSize;
    this.vector = VIRTIO_MSI_NO_VECTOR;
    this.enabled = false;
    for (const area of ['queue_desc', 'queue_driver', 'queue_device'] as const) {
      this.#low[area] = 0;
      this.#high[area] = 0;
    }
  }

  /** Takes a size that the driver chose; false if it is no power of two up to the maximum. */
  resize(size: number): boolean {
    if (size === 0 || size > this.maxSize || (size & (size - 1)) !== 0) return false;
    this.size = size;
    return true;
  }

  low(area: QueueArea): number {
    return this.#low[area];
  }

  high(area: QueueArea): number {
    return this.#high[area];
  }

  setLow(area: QueueArea, value: number): void {
    this.#low[area] = value;
  }

  setHigh(area: QueueArea, value: number): void {
    this.#high[area] = value;
  }

  /** The queue as the driver configured it, or what is wrong with it. */
  resolve(): QueueConfig | string {
    if (this.size === 0) return 'queue is not available';
    const descriptorArea = this.#address('queue_desc');
    const driverArea = this.#address('queue_driver');
    const deviceArea = this.#address('queue_device');
    if (typeof descriptorArea === 'string') return descriptorArea;
    if (typeof driverArea === 'string') return driverArea;
    if (typeof deviceArea === 'string') return deviceArea;
    return { index: this.index, size: this.size, descriptorArea, driverArea, deviceArea };
  }

  #address(area: QueueArea): number | string {
    const { alignment, bytes } = AREAS[area];
    const address = this.#high[area] * 2 ** 32 + this.#low[area];
    // Addresses are safe integers all through the device; no machine has that much memory.
    if (address + bytes(this.size) > Number.MAX_SAFE_INTEGER) return `${area} ends above 2^53`;
    if (address % alignment !== 0) return `${area} is not aligned to ${alignment}`;
    return address;
  }
}
