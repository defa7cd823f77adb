/**
 * The capabilities of a virtio PCI function, each as a field table without the two bytes (id, next)
 * that the configuration space puts before it.
 */
import { VvuError } from '../errors.js';
import { VIRTIO_PCI_CAP_PCI_CFG } from '../virtio/constants.js';
import {
  PCI_CAP_EXP_ENDPOINT_SIZEOF_V1,
  PCI_CAP_EXP_ENDPOINT_SIZEOF_V2,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_EXP_DEVCAP_FLR,
  PCI_EXP_DEVCAP_RBER,
  PCI_EXP_DEVCTL_BCR_FLR,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
} from './constants.js';
import type { Msix } from './msix.js';
import type { Placement } from './ports.js';
import { reserved, type Field } from './registers.js';

export interface Capability {
  readonly id: number;
  /** Prefix of the field names, for logs and tests. */
  readonly name: string;
  readonly fields: readonly Field[];
  /** Bytes with the two of id and next: what the specification says, checked against the fields. */
  readonly length: number;
  /** Forgets what write effects left outside of the fields. */
  readonly reset?: () => void;
}

/**
 * PCI Express capability of an endpoint with function-level reset (PCI Express 6.0 §7.5.3).
 *
 * Version 2 takes 60 bytes, of which an endpoint uses few; a virtio-vhost-user function has so many
 * capabilities below offset 256 that only version 1 fits. Linux and QEMU take either, and look for
 * FLR in device_capabilities whatever the version.
 */
export function pciExpressCapability(version: 1 | 2, initiateFlr: () => void): Capability {
  const v1: Field[] = [
    // Device/port type 0: PCI Express endpoint.
    { name: 'pcie_capabilities', width: 2, reset: version },
    { name: 'device_capabilities', width: 4, reset: PCI_EXP_DEVCAP_FLR | PCI_EXP_DEVCAP_RBER },
    {
      name: 'device_control',
      width: 2,
      // Relaxed ordering, no snoop, 512-byte reads: the defaults of §7.5.3.4.
      reset: 0x2810,
      writable: 0x78ff,
      strobe: PCI_EXP_DEVCTL_BCR_FLR,
      write: (value) => {
        if ((value & PCI_EXP_DEVCTL_BCR_FLR) !== 0) initiateFlr();
      },
    },
    { name: 'device_status', width: 2, w1c: 0x000f },
    // One lane of 2.5 GT/s.
    { name: 'link_capabilities', width: 4, reset: 0x11 },
    // Common clock configuration, extended synch; there is no ASPM to control.
    { name: 'link_control', width: 2, writable: 0x00c0 },
    { name: 'link_status', width: 2, reset: 0x11 },
  ];
  const v2: Field[] = [
    // Slot and root registers: not of an endpoint.
    reserved(16),
    { name: 'device_capabilities_2', width: 4 },
    { name: 'device_control_2', width: 2 },
    { name: 'device_status_2', width: 2 },
    // Supported link speeds: 2.5 GT/s.
    { name: 'link_capabilities_2', width: 4, reset: 0x2 },
    { name: 'link_control_2', width: 2, reset: 0x1 },
    { name: 'link_status_2', width: 2 },
    reserved(8),
  ];
  return {
    id: PCI_CAP_ID_EXP,
    name: 'pcie',
    fields: version === 1 ? v1 : [...v1, ...v2],
    length: version === 1 ? PCI_CAP_EXP_ENDPOINT_SIZEOF_V1 : PCI_CAP_EXP_ENDPOINT_SIZEOF_V2,
  };
}

/** MSI-X capability (PCI Express 6.0 §7.7.2). Both structures must be 8-byte aligned. */
export function msixCapability(msix: Msix, table: Placement, pba: Placement): Capability {
  return {
    id: PCI_CAP_ID_MSIX,
    name: 'msix',
    fields: [
      {
        name: 'message_control',
        width: 2,
        reset: msix.vectorCount - 1,
        writable: PCI_MSIX_FLAGS_MASKALL | PCI_MSIX_FLAGS_ENABLE,
        write: (control) => msix.setControl(control),
      },
      { name: 'table', width: 4, reset: offsetAndBir(table) },
      { name: 'pba', width: 4, reset: offsetAndBir(pba) },
    ],
    length: 12,
  };
}

function offsetAndBir({ bar, offset }: Placement): number {
  if (offset % 8 !== 0 || offset >= 2 ** 32) {
    throw new VvuError('BAD_LAYOUT', 'setup', `MSI-X structure at offset ${offset} of BAR ${bar}`);
  }
  return offset + bar;
}

/** A virtio structure that a vendor-specific capability points to (virtio 1.3 §4.1.4). */
export interface VirtioCapability {
  /** VIRTIO_PCI_CAP_*. */
  readonly cfgType: number;
  readonly bar: number;
  /** Bytes from the start of the BAR. */
  readonly offset: number;
  /** Bytes of the structure. */
  readonly length: number;
  /** Tells several of one type apart, default 0. */
  readonly id?: number;
  /** le32 after the capability: notify_off_multiplier or doorbell_off_multiplier. */
  readonly multiplier?: number;
  /** As `struct virtio_pci_cap64`, with the upper halves of offset and length after it. */
  readonly wide?: boolean;
}

/**
 * Encodes a {@link VirtioCapability}. A 32-bit length that cannot hold the structure's is the
 * largest page multiple which, added to the offset, does not overflow: drivers check just that.
 */
export function virtioCapability(capability: VirtioCapability): Capability {
  const { cfgType, bar, offset, length, id = 0, multiplier, wide = false } = capability;
  if (!wide && offset >= 2 ** 32 - 4096) {
    throw new VvuError('BAD_LAYOUT', 'setup', `capability type ${cfgType} at offset ${offset}`);
  }
  const narrow = Math.min(length, 2 ** 32 - 4096 - offset);
  const tail: Field[] = [];
  if (wide) {
    tail.push({ name: 'offset_hi', width: 4, reset: Math.floor(offset / 2 ** 32) });
    tail.push({ name: 'length_hi', width: 4, reset: Math.floor(length / 2 ** 32) });
  }
  if (multiplier !== undefined) tail.push({ name: 'multiplier', width: 4, reset: multiplier });
  const capLen = 16 + 4 * tail.length;
  return {
    id: PCI_CAP_ID_VNDR,
    name: `virtio${cfgType}.${id}`,
    fields: [
      { name: 'cap_len', width: 1, reset: capLen },
      { name: 'cfg_type', width: 1, reset: cfgType },
      { name: 'bar', width: 1, reset: bar },
      { name: 'id', width: 1, reset: id },
      reserved(2),
      { name: 'offset', width: 4, reset: offset % 2 ** 32 },
      { name: 'length', width: 4, reset: wide ? length % 2 ** 32 : narrow },
      ...tail,
    ],
    length: capLen,
  };
}

/** BAR accesses on behalf of {@link pciCfgCapability}. */
export interface BarAccess {
  /** Bytes of a BAR, 0 when there is none of this index. */
  barSize(bar: number): number;
  barRead(bar: number, offset: number, target: Uint8Array): void;
  barWrite(bar: number, offset: number, bytes: Uint8Array): void;
}

/**
 * VIRTIO_PCI_CAP_PCI_CFG: a window to the BARs for firmware that cannot map them (virtio 1.3
 * §4.1.4.9). An access whose length is not 1, 2 or 4, whose offset is not a multiple of the length,
 * or which leaves the BAR reads as 0 and writes nothing.
 */
export function pciCfgCapability(bars: BarAccess): Capability {
  let bar = 0;
  let offset = 0;
  let length = 0;
  const legal = (): boolean =>
    (length === 1 || length === 2 || length === 4) &&
    offset % length === 0 &&
    offset + length <= bars.barSize(bar);
  const data = Buffer.alloc(4);
  return {
    id: PCI_CAP_ID_VNDR,
    name: 'pci_cfg',
    fields: [
      { name: 'cap_len', width: 1, reset: 20 },
      { name: 'cfg_type', width: 1, reset: VIRTIO_PCI_CAP_PCI_CFG },
      { name: 'bar', width: 1, writable: 0xff, write: (value) => (bar = value) },
      { name: 'id', width: 1 },
      reserved(2),
      { name: 'offset', width: 4, writable: 0xffff_ffff, write: (value) => (offset = value) },
      { name: 'length', width: 4, writable: 0xffff_ffff, write: (value) => (length = value) },
      {
        name: 'pci_cfg_data',
        width: 4,
        writable: 0xffff_ffff,
        read: () => {
          data.fill(0);
          if (legal()) bars.barRead(bar, offset, data.subarray(0, length));
          return data.readUInt32LE();
        },
        write: (value) => {
          data.writeUInt32LE(value);
          if (legal()) bars.barWrite(bar, offset, data.subarray(0, length));
        },
      },
    ],
    length: 20,
    reset: () => {
      bar = offset = length = 0;
    },
  };
}
