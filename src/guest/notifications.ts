/** Doorbells (driver to frontend) and kick vectors (frontend to driver). */
import { VvuError } from '../errors.js';
import { VIRTIO_MSI_NO_VECTOR } from '../virtio/constants.js';
import type { DeviceStructures, Structure } from './capabilities.js';
import { COMMON_QUEUE_MSIX_VECTOR } from './constants.js';
import type { Binding, PciAccess } from './pci-access.js';
import { Registers, type CommonConfig } from './registers.js';

/** Signals one of the frontend's eventfds. */
export interface Doorbell {
  ring(): void;
}

/** A doorbell of the device. */
export interface DoorbellRegister extends Doorbell {
  /** Until closed, each signal of `eventfd` (which stays the caller's) rings. */
  ringOnSignal(eventfd: number): Binding;
}

/** Where a device has its doorbells, and how it is told of the vectors of kicks. */
export interface Notifications {
  call(vring: number): DoorbellRegister;
  /** Undefined where there are only the RFC's doorbells. */
  err(vring: number): DoorbellRegister | undefined;
  log(): DoorbellRegister;
  /** False: kicks have to be polled, whatever the vectors. */
  readonly hasKickVectors: boolean;
  /** @returns false when the device has no such vector: the vring has to be polled */
  assignKickVector(vring: number, vector: number): boolean;
}

/** The RFC's layout: doorbells of 2 bytes at the start of BAR 2. */
const RFC_BAR = 2;
const RFC_STRIDE = 2;
const PAGE = 4096;
const DOORBELL_BYTES = 2;

/** Where the RFC's driver of 2018 expects doorbells and window, without any capability. */
export function rfcDoorbells(maxVhostQueues: number): Structure {
  return {
    bar: RFC_BAR,
    offset: 0,
    length: RFC_STRIDE * (maxVhostQueues + 1),
    multiplier: RFC_STRIDE,
  };
}

export function rfcWindow(maxVhostQueues: number, barSize: number): Structure {
  const offset = Math.ceil((RFC_STRIDE * (maxVhostQueues + 1)) / PAGE) * PAGE;
  return { bar: RFC_BAR, offset, length: Math.max(0, barSize - offset), multiplier: 0 };
}

export function openNotifications(
  access: PciAccess,
  structures: DeviceStructures,
  common: CommonConfig,
  maxVhostQueues: number,
): Notifications {
  return structures.queueIndices
    ? new IndexNotifications(access, structures.notify, common, maxVhostQueues)
    : new ArrayNotifications(access, structures, maxVhostQueues);
}

function noDoorbell(what: string): VvuError {
  return new VvuError('DOORBELL_INDEX', 'bug', `there is no doorbell ${what}`);
}

/** The register at `offset` of a BAR; drivers store its number. */
function doorbellRegister(
  access: PciAccess,
  bar: number,
  offset: number,
  number: number,
): DoorbellRegister {
  const value = Buffer.alloc(DOORBELL_BYTES);
  value.writeUInt16LE(number);
  return {
    ring: () => access.barWrite(bar, offset, value),
    ringOnSignal: (eventfd) => access.storeOnSignal(eventfd, bar, offset, value),
  };
}

const SELECT = 0;
const MSIX_VECTOR = 2;

/**
 * The RFC and its revision of 2019: an array of doorbells, 0 .. N-1 the vrings' call eventfds, N the
 * log's, and N+1 .. 2N the err eventfds of devices that have them, with N = max_vhost_queues. Kick
 * vectors through a structure of 2019.
 */
class ArrayNotifications implements Notifications {
  readonly #doorbells: Structure;
  readonly #kicks: Registers | undefined;

  constructor(
    private readonly access: PciAccess,
    { doorbells, notification }: DeviceStructures,
    private readonly vrings: number,
  ) {
    this.#doorbells = doorbells ?? rfcDoorbells(vrings);
    this.#kicks = notification && new Registers(access, notification);
  }

  get hasKickVectors(): boolean {
    return this.#kicks !== undefined;
  }

  call(vring: number): DoorbellRegister {
    return this.#at(vring);
  }

  log(): DoorbellRegister {
    return this.#at(this.vrings);
  }

  err(vring: number): DoorbellRegister | undefined {
    const index = this.vrings + 1 + vring;
    return this.#has(index) ? this.#at(index) : undefined;
  }

  assignKickVector(vring: number, vector: number): boolean {
    this.#kicks?.write16(SELECT, vring);
    this.#kicks?.write16(MSIX_VECTOR, vector);
    return (this.#kicks?.read16(MSIX_VECTOR) ?? VIRTIO_MSI_NO_VECTOR) !== VIRTIO_MSI_NO_VECTOR;
  }

  #has(index: number): boolean {
    const { multiplier, length } = this.#doorbells;
    return Number.isInteger(index) && index >= 0 && index * multiplier + DOORBELL_BYTES <= length;
  }

  #at(index: number): DoorbellRegister {
    if (!this.#has(index)) throw noDoorbell(String(index));
    const { bar, offset, multiplier } = this.#doorbells;
    return doorbellRegister(this.access, bar, offset + index * multiplier, index);
  }
}

/** rxq and txq have queue indices 0 and 1. */
const FIRST_INDEX = 2;

/**
 * Draft 5 (5.14.7.5, 5.14.7.6): doorbells and kick vectors as those of virtqueues, with the queue
 * indices 2i + 2 (call, and the vector of kicks), 2i + 3 (err) and 2(N + 1) (log).
 */
class IndexNotifications implements Notifications {
  readonly hasKickVectors = true;

  constructor(
    private readonly access: PciAccess,
    private readonly notify: Structure,
    private readonly common: CommonConfig,
    private readonly vrings: number,
  ) {}

  call(vring: number): DoorbellRegister {
    return this.#at(this.#index(vring));
  }

  err(vring: number): DoorbellRegister {
    return this.#at(this.#index(vring) + 1);
  }

  log(): DoorbellRegister {
    return this.#at(FIRST_INDEX * (this.vrings + 1));
  }

  assignKickVector(vring: number, vector: number): boolean {
    this.common.selectQueue(this.#index(vring));
    this.common.write16(COMMON_QUEUE_MSIX_VECTOR, vector);
    return this.common.read16(COMMON_QUEUE_MSIX_VECTOR) !== VIRTIO_MSI_NO_VECTOR;
  }

  #index(vring: number): number {
    if (!Number.isInteger(vring) || vring < 0 || vring >= this.vrings) {
      throw noDoorbell(`of vring ${vring}`);
    }
    return FIRST_INDEX + 2 * vring;
  }

  #at(index: number): DoorbellRegister {
    const offset = this.common.notifyRegister(this.notify, index);
    return doorbellRegister(this.access, this.notify.bar, offset, index);
  }
}
