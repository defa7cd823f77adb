/** Doorbells (driver to frontend) and kick vectors (frontend to driver). */
import { VvuError } from '../errors.js';
import { VIRTIO_MSI_NO_VECTOR } from '../virtio/constants.js';
import type { Structure } from './capabilities.js';
import type { PciAccess } from './pci-access.js';
import { Registers } from './registers.js';

/** Signals one of the frontend's eventfds. */
export interface Doorbell {
  ring(): void;
}

/** The RFC's layout: doorbells of 2 bytes at the start of BAR 2. */
const RFC_BAR = 2;
const RFC_STRIDE = 2;
const PAGE = 4096;

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

/** One doorbell per vring, and one more for the log (index max_vhost_queues). */
export function createDoorbell(access: PciAccess, structure: Structure, index: number): Doorbell {
  const { bar, length, multiplier } = structure;
  const at = index * multiplier;
  if (!Number.isInteger(index) || index < 0 || at + 2 > length) {
    throw new VvuError('DOORBELL_INDEX', 'bug', `there is no doorbell ${index}`);
  }
  const offset = structure.offset + at;
  const value = Buffer.alloc(2);
  value.writeUInt16LE(index);
  return { ring: () => access.barWrite(bar, offset, value) };
}

const SELECT = 0;
const MSIX_VECTOR = 2;

/**
 * Assigns an MSI-X vector to the kicks of a vring.
 * @returns false when the device has no such vector: the vring has to be polled
 */
export function assignKickVector(
  access: PciAccess,
  structure: Structure,
  vring: number,
  vector: number,
): boolean {
  const registers = new Registers(access, structure);
  registers.write16(SELECT, vring);
  registers.write16(MSIX_VECTOR, vector);
  return registers.read16(MSIX_VECTOR) !== VIRTIO_MSI_NO_VECTOR;
}
