import type { RegisterBlock } from '../virtio/ports.js';
import {
  VIRTIO_VHOST_USER_STATUS_MASTER_UP as MASTER_UP,
  VIRTIO_VHOST_USER_STATUS_SLAVE_UP as SLAVE_UP,
} from './constants.js';

/** `struct virtio_vhost_user_config`: le32 status, le32 max_vhost_queues, u8 uuid[16]. */
export const DEVICE_CONFIG_SIZE = 24;
const STATUS_SIZE = 4;
const MAX_VHOST_QUEUES_OFFSET = 4;
const UUID_OFFSET = 8;

/** What a driver's write of the status register asks for. */
export interface StatusWrite {
  readonly slaveUp: boolean;
}

/**
 * Device configuration space. Existing drivers access it byte by byte, and write back a MASTER_UP
 * bit that they read earlier and that may be stale: only SLAVE_UP of a write means anything. Any
 * other bit is an error of the driver.
 */
export class DeviceConfig implements RegisterBlock {
  readonly size = DEVICE_CONFIG_SIZE;
  readonly #bytes = Buffer.alloc(DEVICE_CONFIG_SIZE);

  constructor(
    maxVhostQueues: number,
    uuid: Uint8Array,
    private readonly onStatus: (write: StatusWrite) => void,
    private readonly onBadStatus: (bits: number) => void,
  ) {
    this.#bytes.writeUInt32LE(maxVhostQueues, MAX_VHOST_QUEUES_OFFSET);
    this.#bytes.set(uuid, UUID_OFFSET);
  }

  /** The status register, as the device sets it. */
  set status(value: number) {
    this.#bytes.writeUInt32LE(value, 0);
  }

  get status(): number {
    return this.#bytes.readUInt32LE(0);
  }

  read(offset: number, target: Uint8Array): void {
    target.set(this.#bytes.subarray(offset, offset + target.length));
  }

  write(offset: number, bytes: Uint8Array): void {
    if (offset >= STATUS_SIZE) return;
    const inStatus = bytes.subarray(0, STATUS_SIZE - offset);
    let bits = 0;
    inStatus.forEach((byte, i) => (bits |= byte << (8 * (offset + i))));
    const unknown = bits & ~(SLAVE_UP | MASTER_UP);
    if (unknown !== 0) this.onBadStatus(unknown >>> 0);
    else if (offset === 0 && bytes.length > 0) this.onStatus({ slaveUp: (bits & SLAVE_UP) !== 0 });
  }
}
