/** A capability of a function's configuration space. */
export interface Capability {
  readonly id: number;
  readonly offset: number;
}

/** A virtio_pci_cap, virtio 1.3 §4.1.4; for type 8 possibly a virtio_pci_cap64's first half. */
export interface VirtioCapability {
  readonly type: number;
  readonly bar: number;
  /** The `id` field, which tells several of one type apart. */
  readonly id: number;
  readonly offset: number;
  readonly length: number;
  /** All bytes of the capability, for fields after the common ones. */
  readonly bytes: Buffer;
}

export const CAPABILITY_MSIX = 0x11;
export const CAPABILITY_PCIE = 0x10;
export const CAPABILITY_VENDOR = 0x09;

const STATUS = 0x06;
const STATUS_CAPABILITIES = 0x10;
const CAPABILITY_POINTER = 0x34;

/** Walks the capability list as a guest sees it; throws if the list does not end. */
export function capabilities(config: Buffer): Capability[] {
  const found: Capability[] = [];
  if ((config.readUInt16LE(STATUS) & STATUS_CAPABILITIES) === 0) return found;
  let offset = config.readUInt8(CAPABILITY_POINTER) & ~3;
  while (offset !== 0) {
    if (offset < 0x40 || found.length > 48) throw new Error(`bad capability at ${offset}`);
    found.push({ id: config.readUInt8(offset), offset });
    offset = config.readUInt8(offset + 1) & ~3;
  }
  return found;
}

/** The virtio structures that the vendor-specific capabilities describe, in list order. */
export function virtioCapabilities(config: Buffer): VirtioCapability[] {
  return capabilities(config)
    .filter((capability) => capability.id === CAPABILITY_VENDOR)
    .map(({ offset }) => {
      const bytes = config.subarray(offset, offset + config.readUInt8(offset + 2));
      return {
        type: bytes.readUInt8(3),
        bar: bytes.readUInt8(4),
        id: bytes.readUInt8(5),
        offset: bytes.readUInt32LE(8),
        length: bytes.readUInt32LE(12),
        bytes,
      };
    });
}

/** What the MSI-X capability says. */
export function msix(config: Buffer) {
  const found = capabilities(config).find(({ id }) => id === CAPABILITY_MSIX);
  if (found === undefined) throw new Error('no MSI-X capability');
  const control = config.readUInt16LE(found.offset + 2);
  const table = config.readUInt32LE(found.offset + 4);
  const pba = config.readUInt32LE(found.offset + 8);
  return {
    offset: found.offset,
    vectors: (control & 0x7ff) + 1,
    enabled: (control & 0x8000) !== 0,
    tableBar: table & 7,
    tableOffset: (table & ~7) >>> 0,
    pbaBar: pba & 7,
    pbaOffset: (pba & ~7) >>> 0,
  };
}
