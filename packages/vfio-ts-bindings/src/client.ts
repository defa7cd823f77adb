import type { PeerFeatures } from './connection.js';
import type { VfioUserClientOptions } from './options.js';
import type { Transport } from './transport.js';

export interface DeviceInfo {
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}
export interface RegionInfo {
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  readonly size: number;
  /** May be negative, see RegionMmap. */
  readonly offset: number;
  /** Sparse areas, or undefined. */
  readonly areas: readonly { readonly offset: number; readonly size: number }[] | undefined;
  /** Owned by the caller. */
  readonly fd: number | undefined;
}
export interface IrqInfo {
  readonly index: number;
  readonly flags: number;
  readonly count: number;
}

/** The shape of the client; being implemented. */
export declare class VfioUserClient {
  constructor(transport: Transport, options?: VfioUserClientOptions);
  connect(): Promise<PeerFeatures>;
  deviceInfo(): Promise<DeviceInfo>;
  regionInfo(index: number): Promise<RegionInfo>;
  irqInfo(index: number): Promise<IrqInfo>;
  regionRead(region: number, offset: number, length: number): Promise<Uint8Array>;
  regionWrite(region: number, offset: number, data: Uint8Array): Promise<void>;
  regionReadSync(region: number, offset: number, length: number): Uint8Array;
  regionWriteSync(region: number, offset: number, data: Uint8Array): void;
  dmaMap(map: {
    readonly address: number;
    readonly size: number;
    readonly fd?: number;
    readonly fileOffset?: number;
    readonly readable?: boolean;
    readonly writable?: boolean;
  }): Promise<void>;
  dmaUnmap(address: number, size: number): Promise<void>;
  dmaUnmapAll(): Promise<void>;
  /** The fds stay the caller's. */
  setIrqEventFds(index: number, start: number, fds: readonly number[]): Promise<void>;
  disableIrqs(index: number): Promise<void>;
  reset(): Promise<void>;
  close(): void;
}
