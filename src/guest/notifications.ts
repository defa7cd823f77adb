/** Doorbells (driver to frontend) and kick vectors (frontend to driver). */
import { VvuError } from '../errors.js';
import { VIRTIO_MSI_NO_VECTOR } from '../virtio/constants.js';
import type { Structure } from './capabilities.js';
import type { Binding, PciAccess } from './pci-access.js';
import { Registers } from './registers.js';

/** Signals one of the frontend's eventfds. */
export interface Doorbell {
  ring(): void;
}

/** A doorbell of the device. */
export interface DoorbellRegister extends Doorbell {
  /** Until closed, each signal of `eventfd` (which stays the caller's) rings. */
  ringOnSignal(eventfd: number): Binding;
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

/** Whether the device has a doorbell `index`. */
export function hasDoorbell(structure: Structure, index: number): boolean {
  const end = index * structure.multiplier + DOORBELL_BYTES;
  return Number.isInteger(index) && index >= 0 && end <= structure.length;
}

/**
 * Doorbells 0 .. N-1 are the vrings' call eventfds, N the log's, and N+1 .. 2N the err eventfds of
 * devices that have them, with N = max_vhost_queues.
 */
export function createDoorbell(
  access: PciAccess,
  structure: Structure,
  index: number,
): DoorbellRegister {
  if (!hasDoorbell(structure, index)) {
    throw new VvuError('DOORBELL_INDEX', 'bug', `there is no doorbell ${index}`);
  }
  const { bar, multiplier } = structure;
  const offset = structure.offset + index * multiplier;
  const value = Buffer.alloc(DOORBELL_BYTES);
  value.writeUInt16LE(index);
  return {
    ring: () => access.barWrite(bar, offset, value),
    ringOnSignal: (eventfd) => access.storeOnSignal(eventfd, bar, offset, value),
  };
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
