import type { VfioUserConnection } from './connection.js';

/** A part of a region that the client may map. Offsets and sizes are whole pages of 4,096 bytes. */
export interface MmapArea {
  /** Byte offset in the region. */
  readonly offset: number;
  readonly size: number;
}

/** The file behind the mappable areas of a region: one for the whole region. */
export interface RegionMmap {
  /** Stays the device's; it is duplicated into each GET_REGION_INFO reply. */
  readonly fd: number;
  /**
   * File offset of the region's first byte: an area shows the file from `fileOffset + area.offset`.
   * May be negative as long as that sum is not, so that a later area can show the file's start.
   */
  readonly fileOffset: number;
  /**
   * The mappable parts, ascending and disjoint (VFIO_REGION_INFO_CAP_SPARSE_MMAP). Absent: the
   * whole region. The file must be at least as long as the areas, or the client gets a SIGBUS.
   */
  readonly areas?: readonly MmapArea[];
}

export interface VfioUserRegion {
  /** Bytes; 0 for a region that the device does not have. */
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly mmap?: RegionMmap;
}

/** One entry of a GET_REGION_IO_FDS reply. */
export interface RegionIoFd {
  readonly offset: number;
  /** Bytes of the sub-region; 0 if the access size does not matter. */
  readonly size: number;
  /** Stays the device's; entries may share one fd. */
  readonly fd: number;
  /** VFIO_USER_IO_FD_TYPE_IOEVENTFD or _IOREGIONFD. */
  readonly type: number;
  /** KVM_IOEVENTFD_FLAG_* or KVM_IOREGION_*. */
  readonly flags: number;
  /** `datamatch` of an ioeventfd, `user_data` of an ioregionfd. */
  readonly value: bigint;
}

export interface VfioUserIrqInfo {
  /** Number of interrupts of this type (vectors for MSI-X), 0 where there are none. */
  readonly count: number;
  /** VFIO_IRQ_INFO_*. */
  readonly flags: number;
}

/** Client memory that became accessible for DMA. */
export interface DmaMapping {
  /** IOVA of the first byte, page aligned. */
  readonly address: number;
  /** Bytes, a multiple of the page size. */
  readonly size: number;
  /**
   * The file to map, owned by the device from the call on (also when the call throws), or
   * undefined for memory that is only reachable by `dmaRead` and `dmaWrite`.
   */
  readonly fd: number | undefined;
  readonly fileOffset: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

/**
 * A device behind a {@link VfioUserServer}. All methods are called on the server's thread, in the
 * order of the client's commands, and are synchronous: the reply is sent when they return. None of
 * them may wait for `dmaRead` or `dmaWrite`, since a client answers those only after the reply.
 *
 * A throw becomes an error reply: the errno of a {@link VfioUserError}, or of an error whose `code`
 * is an errno name, else EIO.
 */
export interface VfioUserDevice {
  /** By region index; a PCI device has VFIO_PCI_NUM_REGIONS (9), in that order, or more. */
  readonly regions: readonly VfioUserRegion[];
  /** By IRQ index; a PCI device has VFIO_PCI_NUM_IRQS (5). */
  readonly irqs: readonly VfioUserIrqInfo[];
  /** Fills `target` from the region. Offset and length are inside of the region. */
  regionRead(index: number, offset: number, target: Uint8Array): void;
  /** `data` is only valid during the call. Offset and length are inside of the region. */
  regionWrite(index: number, offset: number, data: Uint8Array): void;
  /** Sub-regions that may be bound to fds; absent or empty: none. */
  regionIoFds?(index: number): readonly RegionIoFd[];
  /** A new mapping; it overlaps no other. See {@link DmaMapping} about the fd. */
  dmaMap(mapping: DmaMapping): void;
  /** Exactly an earlier mapping. The device must not touch the memory after this returns. */
  dmaUnmap(address: number, size: number): void;
  /** All mappings go: DMA_UNMAP with the ALL flag, or the client left. */
  dmaUnmapAll(): void;
  /** VFIO_USER_DEVICE_RESET. DMA mappings and eventfds stay (spec and QEMU). */
  reset(): void;
  /** The eventfds or masks of [start, start + count) of an IRQ index changed. */
  irqChanged?(index: number, start: number, count: number): void;
  /** The version was negotiated; `connection` is usable until `closed`. */
  connected?(connection: VfioUserConnection): void;
  /**
   * The connection is over; mappings and eventfds were taken back before. Called once per
   * connection that reached `connected`. The device's own state is to be kept (spec, "Client
   * Disconnection").
   */
  closed?(connection: VfioUserConnection, reason: string, detail: string): void;
}
