import type { PeerFeatures, IrqAction, RemapOp, VfioUserConnection } from './connection.js';
import type { VfioUserDevice } from './device.js';
import type { VfioUserServerOptions } from './options.js';
import type { Transport } from './transport.js';

/** The shape of the server; being implemented. */
export declare class VfioUserServer implements VfioUserConnection {
  constructor(transport: Transport, device: VfioUserDevice, options: VfioUserServerOptions);
  /** Starts the transport. To be called once. */
  start(): void;
  readonly clientFeatures: PeerFeatures;
  readonly closed: boolean;
  irqEventFd(index: number, vector: number, action?: IrqAction): number | undefined;
  irqMasked(index: number, vector: number): boolean;
  triggerIrq(index: number, vector: number): boolean;
  clearIrq(index: number, vector: number): void;
  dmaRead(address: number, length: number): Promise<Uint8Array>;
  dmaWrite(address: number, data: Uint8Array): Promise<void>;
  remapRegion(index: number, ops: readonly RemapOp[]): Promise<void>;
  close(): void;
}
