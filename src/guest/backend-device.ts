import type { BackendQueue } from './vring.js';

export type { BackendQueue } from './vring.js';

/**
 * What a backend serves: the device model behind the vhost-user protocol. All calls come from
 * inside the driver's `poll`.
 */
export interface BackendDevice {
  /** Virtio feature bits of the device type; those of the rings and the protocol are added. */
  readonly features: bigint;
  /** Vrings. */
  readonly queueCount: number;
  /** The answer to GET_QUEUE_NUM: queue pairs for a net device, vrings for others. */
  readonly queueNum: number;
  /** Buffers are used in the order in which they became available. */
  readonly inOrder: boolean;
  /** Bits of protocol features that only the device type knows (NET_MTU, RARP). */
  readonly protocolFeatures: bigint;
  /** Configuration space, for types that have it in the backend. */
  readonly config?: BackendConfig;
  /**
   * Sizes in bytes of the shared memory regions by shmid, for types that have them: the frontend sees
   * SHMEM, and BACKEND_SHMEM_MAP fills them. At most 256.
   */
  readonly sharedMemory?: readonly bigint[];
  /** SET_FEATURES: what the frontend accepted, a subset of what was offered. */
  featuresAccepted(features: bigint): void;
  /** From now on the model serves the ring. */
  queueStarted(queue: BackendQueue): void;
  /** The model lets go of the ring before this returns: unused buffers are put back (`unpop`). */
  queueStopped(queue: BackendQueue): void;
  /** NET_SET_MTU; throws a VvuError of scope `request` to refuse. */
  setMtu?(mtu: number): void;
  /** SEND_RARP: the frontend has migrated; 6 bytes. */
  sendRarp?(mac: Buffer): void;
}

export interface BackendConfig {
  /** Returns exactly `length` bytes; throws a VvuError of scope `request` out of range. */
  read(offset: number, length: number): Buffer;
  write(offset: number, bytes: Buffer): void;
}
