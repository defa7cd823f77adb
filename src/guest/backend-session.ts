/** The vhost-user conversation with one frontend, from connect to disconnect. */
import { VvuError } from '../errors.js';
import {
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  VHOST_USER_PROTOCOL_F_SHMEM,
  VHOST_USER_PROTOCOL_F_STATUS,
  featureBit,
  featureBits,
  type ConfigSpace,
  type FrontendMessageName,
  type Inflight,
  type LogBase,
  type MemoryRegion,
  type RequestOf,
  type ShmemConfig,
  type VringAddress,
  type frontendMessages,
} from '../vhost-user/index.js';
import { VIRTIO_F_VERSION_1 } from '../virtio/constants.js';
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  isQueueSize,
} from '../virtio/ring-constants.js';
import type { BackendDevice } from './backend-device.js';
import { DirtyLog } from './dirty-log.js';
import { FrontendMemory, MAX_MEMORY_SLOTS } from './frontend-memory.js';
import { InflightArea } from './inflight.js';
import type { Doorbell } from './notifications.js';
import type { WindowAccess } from './pci-access.js';
import { Vring } from './vring.js';

/** A handler returns the value of the reply's payload, or nothing for messages without one. */
export type SessionHandlers = {
  readonly [N in FrontendMessageName]?: (value: RequestOf<(typeof frontendMessages)[N]>) => unknown;
};

const RING_FEATURES = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
const PROTOCOL_FEATURES = featureBits(
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_STATUS,
);

export interface SessionPorts {
  readonly window: WindowAccess;
  doorbell(vring: number): Doorbell;
  logDoorbell(): Doorbell;
  /** The frontend takes requests of the backend from now on. */
  channelOpened(): void;
  /** A ring failed while it was served. */
  ringFailed(vring: number, error: unknown): void;
}

function refuse(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

/**
 * What the frontend has set so far. Every handler either takes effect or throws a VvuError and
 * changes nothing.
 */
export class BackendSession {
  readonly memory: FrontendMemory;
  readonly offeredFeatures: bigint;
  readonly offeredProtocolFeatures: bigint;
  readonly handlers: SessionHandlers = this.createHandlers();
  features = 0n;
  protocolFeatures = 0n;
  private status = 0;
  private log: DirtyLog | undefined;
  private logFd = false;
  private inflight: InflightArea | undefined;
  private readonly vrings: readonly Vring[];

  constructor(
    private readonly device: BackendDevice,
    private readonly ports: SessionPorts,
  ) {
    this.memory = new FrontendMemory(ports.window);
    this.offeredFeatures =
      device.features |
      RING_FEATURES |
      featureBits(VHOST_USER_F_PROTOCOL_FEATURES, VHOST_F_LOG_ALL);
    this.offeredProtocolFeatures =
      PROTOCOL_FEATURES |
      device.protocolFeatures |
      // Of buffers that are used in order, the ring itself tells which are in flight.
      (device.inOrder ? 0n : featureBit(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)) |
      (device.config === undefined ? 0n : featureBit(VHOST_USER_PROTOCOL_F_CONFIG)) |
      (device.sharedMemory === undefined ? 0n : featureBit(VHOST_USER_PROTOCOL_F_SHMEM));
    this.vrings = Array.from({ length: device.queueCount }, (_, index) => new Vring(index));
  }

  /** Rings that are running, for logs and tests. */
  get running(): readonly number[] {
    return this.vrings.filter(({ running }) => running !== undefined).map(({ index }) => index);
  }

  acknowledges(): boolean {
    return (this.protocolFeatures & featureBit(VHOST_USER_PROTOCOL_F_REPLY_ACK)) !== 0n;
  }

  /** Stops every ring; the frontend is gone or wants a reset. */
  end(): void {
    for (const vring of this.vrings) {
      this.stop(vring);
      vring.reset();
    }
    this.memory.clear();
    this.log = this.memory.log = undefined;
    this.inflight = undefined;
  }

  private createHandlers(): SessionHandlers {
    return {
      GET_FEATURES: () => this.offeredFeatures,
      SET_FEATURES: (features) => this.setFeatures(features),
      GET_PROTOCOL_FEATURES: () => this.offeredProtocolFeatures,
      SET_PROTOCOL_FEATURES: (features) => this.setProtocolFeatures(features),
      GET_QUEUE_NUM: () => BigInt(this.device.queueNum),
      GET_MAX_MEM_SLOTS: () => BigInt(MAX_MEMORY_SLOTS),
      SET_OWNER: () => undefined,
      // Deprecated; "it is recommended that back-ends either ignore this message, or use it to
      // disable all rings".
      RESET_OWNER: () => this.vrings.forEach((vring) => (vring.enabled = false)),
      RESET_DEVICE: () => this.resetDevice(),
      SET_MEM_TABLE: (regions) => this.setMemoryTable(regions),
      ADD_MEM_REG: (region) => this.addRegion(region),
      REM_MEM_REG: (region) => this.removeRegion(region),
      SET_LOG_BASE: (log) => this.setLog(log),
      SET_LOG_FD: () => void (this.logFd = true),
      GET_INFLIGHT_FD: (offer) => this.setUpInflight(offer),
      SET_INFLIGHT_FD: (inflight) => this.setInflight(inflight),
      SET_VRING_NUM: ({ index, num }) => this.setSize(this.stopped(index), num),
      SET_VRING_BASE: ({ index, num }) => this.setBase(this.stopped(index), num),
      SET_VRING_ADDR: (addresses) => this.setAddresses(addresses),
      SET_VRING_KICK: ({ index }) => this.setKick(this.vring(index)),
      SET_VRING_CALL: ({ index, noFd }) => void (this.vring(index).call = !noFd),
      SET_VRING_ERR: ({ index }) => void this.vring(index),
      SET_VRING_ENABLE: ({ index, num }) => void (this.vring(index).enabled = num === 1),
      GET_VRING_BASE: ({ index }) => this.getBase(this.vring(index)),
      GET_CONFIG: (request) => this.readConfig(request),
      SET_CONFIG: ({ offset, data }) => this.config().write(offset, data),
      SET_BACKEND_REQ_FD: () => this.ports.channelOpened(),
      GET_SHMEM_CONFIG: () => this.sharedMemory(),
      SET_STATUS: (status) => this.setStatus(Number(status)),
      GET_STATUS: () => BigInt(this.status),
      NET_SET_MTU: (mtu) => this.device.setMtu?.(Number(mtu)),
      SEND_RARP: (mac) => this.device.sendRarp?.(mac),
    };
  }

  private vring(index: number): Vring {
    const vring = this.vrings[index];
    if (vring === undefined) throw refuse('VRING_INDEX', `vring ${index} of ${this.vrings.length}`);
    return vring;
  }

  /** A vring whose layout may be changed. */
  private stopped(index: number): Vring {
    const vring = this.vring(index);
    if (vring.running !== undefined) throw refuse('VRING_RUNNING', `vring ${index} is running`);
    return vring;
  }

  private setFeatures(features: bigint): void {
    const unknown = features & ~this.offeredFeatures;
    if (unknown !== 0n) {
      throw refuse('FEATURES', `features 0x${unknown.toString(16)} were not offered`);
    }
    this.features = features;
    this.updateLogging();
    this.device.featuresAccepted(features);
    // "Ring states": without protocol features there is no SET_VRING_ENABLE.
    if ((features & featureBit(VHOST_USER_F_PROTOCOL_FEATURES)) === 0n) {
      for (const vring of this.vrings) vring.enabled = true;
    }
  }

  private setProtocolFeatures(features: bigint): void {
    const unknown = features & ~this.offeredProtocolFeatures;
    if (unknown !== 0n) {
      throw refuse('FEATURES', `protocol features 0x${unknown.toString(16)} were not offered`);
    }
    this.protocolFeatures = features;
  }

  /** Each log replaces the one before; the frontend sends a larger one when its memory grows. */
  private setLog(log: LogBase): bigint {
    if (!('mmapSize' in log)) throw refuse('LOG_ADDRESS', 'a log without a file');
    const doorbell = this.ports.logDoorbell();
    this.log = new DirtyLog(this.ports.window, log, () => (this.logFd ? doorbell : undefined));
    this.updateLogging();
    return 0n;
  }

  /** "Migration": VHOST_F_LOG_ALL starts and stops the logging of all stores. */
  private updateLogging(): void {
    const wanted = (this.features & featureBit(VHOST_F_LOG_ALL)) !== 0n;
    this.memory.log = wanted ? this.log : undefined;
  }

  /** The buffer is new and full of zeros: each ring sets up its part when it starts. */
  private setUpInflight(offer: Inflight): Inflight {
    const { bytes } = this.setInflight(offer);
    return { ...offer, mmapSize: BigInt(bytes), mmapOffset: 0n };
  }

  private setInflight(inflight: Inflight): InflightArea {
    const running = this.vrings.find((vring) => vring.running !== undefined);
    if (running !== undefined && this.inflight !== undefined) {
      throw refuse('VRING_RUNNING', `vring ${running.index} uses the in-flight buffer`);
    }
    return (this.inflight = new InflightArea(this.ports.window, inflight));
  }

  private setMemoryTable(regions: readonly MemoryRegion[]): void {
    this.memory.setTable(regions);
    this.memoryChanged();
  }

  private addRegion(region: MemoryRegion): void {
    this.memory.add(region);
    this.memoryChanged();
  }

  private removeRegion(region: MemoryRegion): void {
    this.memory.remove(region);
    this.memoryChanged();
  }

  /**
   * Rings that moved or lost their memory stop; those whose memory is there (again) start. A ring
   * whose guest addresses are the same goes on, wherever the window shows it now.
   */
  private memoryChanged(): void {
    for (const vring of this.vrings) {
      try {
        if (vring.running !== undefined && !vring.moved(this.memory)) continue;
        this.stop(vring);
        this.startIfReady(vring);
      } catch (error) {
        this.ports.ringFailed(vring.index, error);
      }
    }
  }

  private setSize(vring: Vring, size: number): void {
    if (!isQueueSize(size)) throw refuse('VRING_SIZE', `vring ${vring.index}: size ${size}`);
    vring.size = size;
    this.startIfReady(vring);
  }

  private setBase(vring: Vring, base: number): void {
    if (base > 0xffff) throw refuse('VRING_BASE', `vring ${vring.index}: base ${base}`);
    vring.base = base;
  }

  private setAddresses(addresses: VringAddress): void {
    const vring = this.vring(addresses.index);
    const old = vring.addresses;
    if (vring.running !== undefined) {
      // The flags may change while a ring runs (logging), its place may not.
      const same =
        old?.descriptor === addresses.descriptor &&
        old.available === addresses.available &&
        old.used === addresses.used;
      if (!same) throw refuse('VRING_RUNNING', `vring ${vring.index} is running`);
      vring.addresses = addresses;
      return;
    }
    vring.addresses = addresses;
    try {
      if (vring.size > 0) vring.locate(this.memory);
      this.startIfReady(vring);
    } catch (error) {
      vring.addresses = old;
      throw error;
    }
  }

  /** In poll mode the first kick cannot be seen, so the ring starts when it could be kicked. */
  private setKick(vring: Vring): void {
    vring.kick = true;
    try {
      this.startIfReady(vring);
    } catch (error) {
      vring.kick = false;
      throw error;
    }
  }

  private startIfReady(vring: Vring): void {
    if (vring.ready && vring.running === undefined) this.start(vring);
  }

  private start(vring: Vring): void {
    const { index } = vring;
    const queue = vring.start(this.memory, {
      features: this.features,
      inOrder: this.device.inOrder,
      doorbell: this.ports.doorbell(index),
      log: () => this.log,
      inflight: this.device.inOrder ? undefined : this.inflight,
      onFailure: (error) => this.ports.ringFailed(index, error),
    });
    try {
      this.device.queueStarted(queue);
    } catch (error) {
      vring.running = undefined;
      this.device.queueStopped(queue);
      throw error;
    }
  }

  private stop(vring: Vring): void {
    const { running } = vring;
    if (running === undefined) return;
    vring.running = undefined;
    this.device.queueStopped(running);
    vring.base = running.ring.position.available;
  }

  private getBase(vring: Vring): { index: number; num: number } {
    this.stop(vring);
    vring.kick = false;
    vring.call = false;
    return { index: vring.index, num: vring.base };
  }

  private config(): NonNullable<BackendDevice['config']> {
    if (this.device.config === undefined) throw refuse('NO_CONFIG', 'no configuration space here');
    return this.device.config;
  }

  /** "The back-end replies with an empty payload" on errors. */
  private readConfig({ offset, flags, data }: ConfigSpace): ConfigSpace | undefined {
    try {
      return { offset, flags, data: this.config().read(offset, data.length) };
    } catch (error) {
      if (error instanceof VvuError && error.scope === 'request') return undefined;
      throw error;
    }
  }

  private sharedMemory(): ShmemConfig {
    const { sharedMemory: memorySizes = [] } = this.device;
    return { regions: memorySizes.length, memorySizes };
  }

  private setStatus(status: number): void {
    this.status = status;
    if (status === 0) this.resetDevice();
  }

  /**
   * Rings stop and are disabled; memory and features stay, until they are set again. What was in
   * flight is of no use to a ring that starts over.
   */
  private resetDevice(): void {
    this.status = 0;
    this.inflight = undefined;
    for (const vring of this.vrings) {
      this.stop(vring);
      vring.kick = false;
      vring.enabled = false;
    }
  }
}
