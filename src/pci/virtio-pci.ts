/**
 * The modern virtio-pci transport (virtio 1.3 §4.1) of any {@link VirtioDevice}.
 */
import { VvuError, errorCode, errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ADMIN_VQ,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_SR_IOV,
  VIRTIO_F_VERSION_1,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
} from '../virtio/constants.js';
import type {
  AuxiliaryIndices,
  DriverPort,
  GuestMemory,
  RegisterBlock,
  VirtioDevice,
} from '../virtio/ports.js';
import { writeStatus } from '../virtio/status.js';
import { commonConfig, type CommonConfigModel } from './common-config.js';
import type { FunctionInterrupts } from './interrupts.js';
import { notifyRegisters } from './notify.js';
import { QueueState } from './queue-state.js';
import type { RegisterFile } from './registers.js';

/** Features that would need registers or ring rules which this transport does not have. */
const NOT_CARRIED =
  VIRTIO_F_RING_PACKED |
  VIRTIO_F_SR_IOV |
  VIRTIO_F_NOTIFICATION_DATA |
  VIRTIO_F_NOTIF_CONFIG_DATA |
  VIRTIO_F_ADMIN_VQ;

/** Warnings about one driver's mistakes: a hostile one must not fill the log. */
const MAX_COMPLAINTS = 32;

/**
 * Registers towards the driver, {@link DriverPort} towards the device. Whatever a driver writes,
 * nothing is thrown: a mistake is ignored with a log line, or sets DEVICE_NEEDS_RESET.
 */
export class VirtioPciTransport implements DriverPort {
  /** The structures that the capabilities of type 1 to 4 point to. */
  readonly common: RegisterFile;
  readonly notify: RegisterFile;
  readonly isr: RegisterBlock;
  readonly deviceConfig: RegisterBlock;
  readonly #queues: readonly QueueState[];
  #status = 0;
  #driverFeatures = 0n;
  #configVector = VIRTIO_MSI_NO_VECTOR;
  #configGeneration = 0;
  #complaints = 0;

  /** Attaches to the device. @throws VvuError of scope `setup` when it cannot be carried */
  constructor(
    private readonly device: VirtioDevice,
    readonly memory: GuestMemory,
    private readonly interrupts: FunctionInterrupts,
    private readonly log: Logger,
    private readonly auxiliary?: AuxiliaryIndices,
  ) {
    checkDevice(device);
    this.#queues = device.queueMaxSizes.map((size, index) => new QueueState(index, size));
    this.common = commonConfig(this.#model());
    this.notify = notifyRegisters(this.#queues.length, (index) => this.#kick(index));
    this.isr = interrupts.intx.registers;
    this.deviceConfig = device.config;
    device.attach(this);
  }

  /** The device status field, VIRTIO_CONFIG_S_* bits. */
  get status(): number {
    return this.#status;
  }

  notifyQueue(index: number): void {
    const queue = this.#queues[index];
    if (!this.#live || !queue?.enabled) return;
    this.interrupts.raise(VIRTIO_PCI_ISR_QUEUE, queue.vector);
  }

  notifyConfig(): void {
    this.#configGeneration = (this.#configGeneration + 1) & 0xff;
    // §2.1.2: no configuration change notification before DRIVER_OK.
    if (this.#live) this.interrupts.raise(VIRTIO_PCI_ISR_CONFIG, this.#configVector);
  }

  needsReset(reason: string): void {
    const broken = (this.#status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;
    if (this.#status === 0 || broken) return;
    this.#complain({ reason }, 'device needs a reset by its driver');
    this.#status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.notifyConfig();
  }

  /**
   * Device reset, by a status of 0 or with the whole function: the device's work in flight ends,
   * queues, features, vectors and interrupt causes are forgotten. MSI-X itself stays configured.
   */
  reset(): void {
    // Before the device is told, so that its last notifications go nowhere.
    this.#status = 0;
    this.#driverFeatures = 0n;
    this.#configVector = VIRTIO_MSI_NO_VECTOR;
    for (const queue of this.#queues) queue.reset();
    this.common.reset();
    this.#guard('reset', () => this.device.reset());
    this.interrupts.clearCauses();
  }

  get #live(): boolean {
    return (this.#status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
  }

  #kick(index: number): void {
    const queue = this.#queues[index];
    const broken = (this.#status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;
    if (this.#live && !broken && queue?.enabled) this.#guard('kick', () => this.device.kick(index));
  }

  #model(): CommonConfigModel {
    return {
      deviceFeatures: (word) => featureWord(this.device.features, word),
      driverFeatures: (word) => featureWord(this.#driverFeatures, word),
      writeDriverFeatures: (word, bits) => this.#writeDriverFeatures(word, bits),
      configVector: () => this.#configVector,
      writeConfigVector: (vector) => (this.#configVector = this.#assignable(vector)),
      queueCount: this.#queues.length,
      status: () => this.#status,
      writeStatus: (status) => this.#writeStatus(status),
      configGeneration: () => this.#configGeneration,
      queue: (index) => this.#queues[index],
      writeQueueSize: (queue, size) => this.#writeQueueSize(queue, size),
      writeQueueVector: (queue, vector) => (queue.vector = this.#assignable(vector)),
      enableQueue: (queue) => this.#enableQueue(queue),
      resetQueue: (queue) => this.#resetQueue(queue),
      auxiliary: this.auxiliary,
    };
  }

  #writeStatus(value: number): void {
    if (value === 0) {
      this.reset();
      return;
    }
    const { status, edges, refused } = writeStatus(this.#status, value, () => this.#acceptable());
    for (const what of refused) this.#complain({ status: this.#status, what }, 'status refused');
    // The device may have asked for a reset while it looked at the features.
    this.#status = status | (this.#status & VIRTIO_CONFIG_S_NEEDS_RESET);
    if (edges !== 0) this.log.debug({ status: this.#status }, 'device status');
    if ((edges & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#guard('start', () => this.device.start());
  }

  /** FEATURES_OK is asked for: may the driver use what it has written? (§2.2.2, §6.2) */
  #acceptable(): boolean {
    const features = this.#driverFeatures;
    const unknown = features & ~this.device.features;
    if (unknown !== 0n) {
      this.#complain({ bits: `0x${unknown.toString(16)}` }, 'driver took features not offered');
      return false;
    }
    if ((features & VIRTIO_F_VERSION_1) === 0n) {
      this.#complain({}, 'driver did not take VIRTIO_F_VERSION_1');
      return false;
    }
    return this.#guard('feature check', () => this.device.acceptFeatures(features)) ?? false;
  }

  #writeDriverFeatures(word: number, bits: number): void {
    if ((this.#status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) {
      this.#complain({ word, bits }, 'feature write after FEATURES_OK ignored');
    } else if (word <= 1) {
      const shift = 32n * BigInt(word);
      const others = this.#driverFeatures & ~(0xffff_ffffn << shift);
      this.#driverFeatures = others | (BigInt(bits) << shift);
    }
  }

  #writeQueueSize(queue: QueueState, size: number): void {
    if (!queue.enabled && queue.resize(size)) return;
    if (size !== queue.size) this.#complain({ queue: queue.index, size }, 'queue size ignored');
  }

  /**
   * Gives the queue to the device. Before FEATURES_OK that is ignored, since the ring's rules are
   * not yet known; rings that cannot be (§2.7: alignment) leave the queue disabled and set
   * NEEDS_RESET, because drivers do not read queue_enable back, but do look at the status.
   */
  #enableQueue(queue: QueueState): void {
    if (queue.enabled) return;
    const { index } = queue;
    if ((this.#status & VIRTIO_CONFIG_S_FEATURES_OK) === 0) {
      this.#complain({ queue: index }, 'queue_enable before FEATURES_OK ignored');
      return;
    }
    const config = queue.resolve();
    if (typeof config === 'string') {
      this.needsReset(`queue ${index}: ${config}`);
      return;
    }
    queue.enabled = true;
    this.#guard('queue enable', () => this.device.enableQueue(config));
  }

  #resetQueue(queue: QueueState): void {
    if ((this.#driverFeatures & VIRTIO_F_RING_RESET) === 0n || !queue.enabled) {
      this.#complain({ queue: queue.index }, 'queue_reset ignored');
      return;
    }
    this.#guard('queue reset', () => this.device.resetQueue(queue.index));
    queue.reset();
  }

  /** §4.1.5.1.2: a vector that cannot be had reads back as NO_VECTOR. */
  #assignable(vector: number): number {
    return vector < this.interrupts.vectorCount ? vector : VIRTIO_MSI_NO_VECTOR;
  }

  /** Runs the device's code: what it throws breaks the device, not the process. */
  #guard<T>(what: string, run: () => T): T | undefined {
    try {
      return run();
    } catch (error) {
      const expected = error instanceof VvuError && error.scope === 'device';
      const detail = { code: errorCode(error), error: errorMessage(error) };
      if (!expected) this.log.error(detail, `device failed: ${what}`);
      this.needsReset(`${what}: ${detail.code} ${detail.error}`);
      return undefined;
    }
  }

  #complain(fields: object, message: string): void {
    this.#complaints++;
    if (this.#complaints <= MAX_COMPLAINTS) this.log.warn(fields, message);
    else this.log.debug(fields, message);
  }
}

function featureWord(features: bigint, word: number): number {
  return word <= 1 ? Number((features >> (32n * BigInt(word))) & 0xffff_ffffn) : 0;
}

function checkDevice(device: VirtioDevice): void {
  const { features, queueMaxSizes } = device;
  const foreign = features & NOT_CARRIED;
  if ((features & VIRTIO_F_VERSION_1) === 0n || foreign !== 0n || features >> 64n !== 0n) {
    const offer = `0x${features.toString(16)}`;
    throw new VvuError('BAD_FEATURES', 'setup', `virtio-pci cannot offer the features ${offer}`);
  }
  const sizes = queueMaxSizes.filter((size) => !possibleQueueSize(size));
  if (sizes.length > 0 || queueMaxSizes.length >= VIRTIO_MSI_NO_VECTOR) {
    const what = `${queueMaxSizes.length} queues, impossible sizes: ${sizes.join(' ') || 'none'}`;
    throw new VvuError('BAD_QUEUES', 'setup', what);
  }
}

/** §2.7: a power of two up to 32768; 0 for a queue that does not exist at present. */
function possibleQueueSize(size: number): boolean {
  return Number.isInteger(size) && size >= 0 && size <= 32768 && (size & (size - 1)) === 0;
}
