/**
 * What a virtio device needs from whatever carries it. The carrier (virtio-pci, a test) implements
 * these; the device knows no PCI, no socket and no hypervisor.
 */

/** Closes what was bound; idempotent. */
export interface Binding {
  close(): void;
}

/** Guest physical (or, behind a vIOMMU, I/O virtual) addresses are safe integers here. */
export type Iova = number;

/**
 * The driver's memory. Every access is checked against the current mappings: an address that is not
 * mapped, or not mapped for the access, throws a `VvuError` of scope `device` with code
 * `DMA_UNMAPPED` or `DMA_PERMISSION`. A range may span several mappings.
 */
export interface GuestMemory {
  /** A copy of [iova, iova + length). */
  read(iova: Iova, length: number): Buffer;
  readInto(iova: Iova, target: Uint8Array): void;
  write(iova: Iova, bytes: Uint8Array): void;
  /** Acquire loads and release stores of naturally aligned little-endian fields. */
  loadU16(iova: Iova): number;
  storeU16(iova: Iova, value: number): void;
  loadU32(iova: Iova): number;
  storeU32(iova: Iova, value: number): void;
  /** Sequentially consistent fence (virtio 1.3 §2.7.7: event suppression needs one). */
  fence(): void;
}

/** Where one virtqueue lies, as the driver configured it (virtio 1.3 §4.1.4.3). */
export interface QueueConfig {
  readonly index: number;
  /** Number of descriptors, a power of two. */
  readonly size: number;
  readonly descriptorArea: Iova;
  /** Available ring. */
  readonly driverArea: Iova;
  /** Used ring. */
  readonly deviceArea: Iova;
}

/** Towards the driver. All are safe to call in any device state: they do nothing after a reset. */
export interface DriverPort {
  readonly memory: GuestMemory;
  /** Used-buffer notification of a queue; suppression was already decided by the queue. */
  notifyQueue(index: number): void;
  /** Configuration change notification; the transport bumps config_generation. */
  notifyConfig(): void;
  /** Sets DEVICE_NEEDS_RESET and tells the driver (virtio 1.3 §2.1.2). */
  needsReset(reason: string): void;
}

/**
 * A byte-addressed block of registers. Callers have checked that offset + length <= size; any width
 * and alignment is legal and must not throw (an access that means nothing reads 0, writes nothing).
 */
export interface RegisterBlock {
  readonly size: number;
  read(offset: number, target: Uint8Array): void;
  write(offset: number, bytes: Uint8Array): void;
}

/** A virtio device as a transport sees it. */
export interface VirtioDevice {
  /** Virtio device id (24 for the RFC's virtio-vhost-user). */
  readonly virtioId: number;
  /** Device feature bits, the transport adds none. */
  readonly features: bigint;
  /** Largest queue size of each queue; the length is num_queues. */
  readonly queueMaxSizes: readonly number[];
  /** Device-specific configuration. */
  readonly config: RegisterBlock;
  /** Called once, before anything else. */
  attach(port: DriverPort): void;
  /** FEATURES_OK is being set: may the driver use exactly these bits? */
  acceptFeatures(features: bigint): boolean;
  /** queue_enable was written; the addresses are final until reset. */
  enableQueue(queue: QueueConfig): void;
  /** queue_reset of one queue (virtio 1.3 §2.6.1): stop using its memory before returning. */
  resetQueue(index: number): void;
  /** DRIVER_OK was set: queues may be processed from now on. */
  start(): void;
  /** Available-buffer notification. Ignored before `start`. */
  kick(index: number): void;
  /** Device reset: cancel everything in flight, forget queues and features, before returning. */
  reset(): void;
}

/**
 * Queue indices behind those of the virtqueues that stand for something else, which has a register
 * among the queues' notifications and a vector as a queue has (draft 5 of "Vhost-user Device
 * Backend", 5.14.7.5 and 5.14.7.6). num_queues does not count them, and their size is 0.
 */
export interface AuxiliaryIndices {
  /** queue_notify_off, or undefined where an index stands for nothing. */
  notifyOff(index: number): number | undefined;
  /** queue_msix_vector. */
  vector(index: number): number;
  setVector(index: number, vector: number): void;
}
