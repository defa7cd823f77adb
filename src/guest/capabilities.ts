/** Finds a virtio device's structures through its PCI capabilities (virtio 1.3 §4.1.4). */
import { VvuError } from '../errors.js';
import {
  COMMON_CFG_BYTES,
  CONFIG_BYTES_RFC,
  PCI_CAPABILITY_LIST,
  PCI_CAP_ID_VNDR,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  VIRTIO_PCI_CAP64_BYTES,
  VIRTIO_PCI_CAP_BYTES,
} from './constants.js';
import {
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_DOORBELL_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFICATION_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_SHARED_MEMORY_CFG,
} from '../virtio/constants.js';
import type { PciAccess } from './pci-access.js';

/** A range of a BAR. */
export interface Structure {
  readonly bar: number;
  readonly offset: number;
  readonly length: number;
  /** notify_off_multiplier or doorbell_off_multiplier, 0 in other structures. */
  readonly multiplier: number;
}

/** Where the structures of a virtio-vhost-user device lie. */
export interface DeviceStructures {
  readonly common: Structure;
  readonly notify: Structure;
  readonly isr: Structure;
  readonly device: Structure;
  /** Absent in the RFC's layout, which has its doorbells and window at fixed places of BAR 2. */
  readonly doorbells: Structure | undefined;
  readonly notification: Structure | undefined;
  readonly window: Structure | undefined;
  /**
   * Draft 5: the window is a shared memory region with 64-bit fields. Doorbells and kick vectors then
   * have queue indices, whether or not there are structures for them as well.
   */
  readonly queueIndices: boolean;
}

/** What finding them needs of an access object; registers are not touched. */
export type ConfigAccess = Pick<PciAccess, 'configRead' | 'barSize'>;

/** One entry of the capability list. */
export interface PciCapability {
  readonly id: number;
  /** Offset in configuration space. */
  readonly at: number;
}

const FIRST_CAPABILITY = 0x40;
/** Capabilities are 4-byte aligned in the 192 bytes behind the header, so there are at most 48. */
const MAX_CAPABILITIES = 48;
const BARS = 6;

/**
 * The standard capabilities in list order.
 * @throws VvuError `PCI_CAPABILITIES`, scope `setup`, for a list that loops or leaves its range
 */
export function listCapabilities(access: ConfigAccess): PciCapability[] {
  const status = access.configRead(PCI_STATUS, 2).readUInt16LE();
  if ((status & PCI_STATUS_CAP_LIST) === 0) return [];
  const found: PciCapability[] = [];
  let at = access.configRead(PCI_CAPABILITY_LIST, 1).readUInt8() & 0xfc;
  while (at !== 0) {
    if (at < FIRST_CAPABILITY || found.length === MAX_CAPABILITIES) {
      throw new VvuError(
        'PCI_CAPABILITIES',
        'setup',
        `bad capability list at 0x${at.toString(16)}`,
      );
    }
    const header = access.configRead(at, 2);
    found.push({ id: header.readUInt8(0), at });
    at = header.readUInt8(1) & 0xfc;
  }
  return found;
}

/**
 * Of several structures of one type the first that this driver can use counts (§4.1.4.1).
 * @throws VvuError of scope `setup` when the function is no modern virtio device
 */
export function findStructures(access: ConfigAccess): DeviceStructures {
  const found = new Map<number, Structure>();
  let queueIndices = false;
  for (const { id, at } of listCapabilities(access)) {
    if (id !== PCI_CAP_ID_VNDR) continue;
    const capLength = access.configRead(at + 2, 1).readUInt8();
    if (capLength < VIRTIO_PCI_CAP_BYTES || at + capLength > 256) continue;
    const bytes = access.configRead(at, Math.min(capLength, VIRTIO_PCI_CAP64_BYTES));
    const type = bytes.readUInt8(3);
    const structure = parseStructure(access, type, bytes);
    if (structure === undefined || found.has(type)) continue;
    found.set(type, structure);
    const wide = bytes.length >= VIRTIO_PCI_CAP64_BYTES;
    if (type === VIRTIO_PCI_CAP_SHARED_MEMORY_CFG) queueIndices = wide;
  }
  const need = (type: number, name: string, bytes: number): Structure => {
    const structure = found.get(type);
    if (structure === undefined || structure.length < bytes) {
      throw new VvuError('NOT_VIRTIO', 'setup', `the PCI function has no ${name} structure`);
    }
    return structure;
  };
  return {
    common: need(VIRTIO_PCI_CAP_COMMON_CFG, 'common configuration', COMMON_CFG_BYTES),
    notify: need(VIRTIO_PCI_CAP_NOTIFY_CFG, 'notification', 2),
    isr: need(VIRTIO_PCI_CAP_ISR_CFG, 'ISR', 1),
    device: need(VIRTIO_PCI_CAP_DEVICE_CFG, 'device configuration', CONFIG_BYTES_RFC),
    doorbells: found.get(VIRTIO_PCI_CAP_DOORBELL_CFG),
    notification: found.get(VIRTIO_PCI_CAP_NOTIFICATION_CFG),
    window: found.get(VIRTIO_PCI_CAP_SHARED_MEMORY_CFG),
    queueIndices,
  };
}

function parseStructure(access: ConfigAccess, type: number, bytes: Buffer): Structure | undefined {
  const bar = bytes.readUInt8(4);
  if (bar >= BARS) return undefined;
  const barSize = access.barSize(bar);
  let offset = bytes.readUInt32LE(8);
  let length = bytes.readUInt32LE(12);
  let multiplier = 0;
  if (type === VIRTIO_PCI_CAP_SHARED_MEMORY_CFG) {
    if (bytes.length >= VIRTIO_PCI_CAP64_BYTES) {
      // struct virtio_pci_cap64 (§4.1.4.7) of the draft layout.
      offset += bytes.readUInt32LE(16) * 2 ** 32;
      length += bytes.readUInt32LE(20) * 2 ** 32;
    } else {
      // 32 bits cannot tell the length of a large window: it is the last thing in its BAR.
      length = Math.max(length, barSize - offset);
    }
  } else if (bytes.length >= VIRTIO_PCI_CAP_BYTES + 4) {
    multiplier = bytes.readUInt32LE(VIRTIO_PCI_CAP_BYTES);
  }
  if (length === 0 || offset + length > barSize) return undefined;
  return { bar, offset, length, multiplier };
}
