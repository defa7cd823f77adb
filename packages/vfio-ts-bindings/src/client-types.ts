import type { IoFdEntry } from './codec/io-fds.js';
import type { SparseArea } from './codec/region-info.js';

/** A region as the server describes it. */
export interface RegionInfo {
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  readonly size: number;
  /** File offset of the region's first byte; may be negative, see `RegionMmap`. */
  readonly offset: number;
  /** The mappable parts, or undefined where the whole region is. */
  readonly areas: readonly SparseArea[] | undefined;
  /** Owned by the caller; present with VFIO_REGION_INFO_FLAG_MMAP. */
  readonly fd: number | undefined;
}

/** The sub-regions of a region that may be bound to fds. */
export interface RegionIoFds {
  /** `fdIndex` is valid in `fds`. */
  readonly entries: readonly IoFdEntry[];
  /** Owned by the caller. */
  readonly fds: readonly number[];
}

export interface DmaMapOptions {
  /** Whole pages. */
  readonly address: number;
  readonly size: number;
  /** Stays the caller's. Absent: memory that is reachable by message alone. */
  readonly fd?: number;
  readonly fileOffset?: number;
  /** Default true. */
  readonly readable?: boolean;
  /** Default true. */
  readonly writable?: boolean;
}

export interface RegionWrite {
  readonly region: number;
  readonly offset: number;
  /** 1 to 8 bytes. */
  readonly data: Uint8Array;
}
