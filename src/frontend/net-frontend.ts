import { VvuError } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import { native as realNative, type Native, type NativeSocket } from '../native.js';
import {
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_SHMEM,
  VHOST_USER_PROTOCOL_F_STATUS,
  VHOST_VRING_F_LOG,
  featureBit,
  featureBits,
  frontendMessages as messages,
} from '../vhost-user/index.js';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_VERSION_1,
} from '../virtio/constants.js';
import type { GuestMemory } from '../virtio/ports.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from '../virtio/ring-constants.js';
import { BackendChannel, type BackendRequestHandler } from './backend-channel.js';
import { FrontendConnection } from './connection.js';
import { NetQueuePair, pairBytes, type NetCounters } from './net-queue.js';
import { FrontendRam, type RamOptions } from './ram.js';

const VIRTIO_NET_F_MRG_RXBUF = 15;
const PROTOCOL_FEATURES = featureBits(
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_STATUS,
);
/** What a frontend that takes requests of its backend asks for besides. */
const REQUEST_FEATURES = featureBits(
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_SHMEM,
);
const FEATURES =
  VIRTIO_F_VERSION_1 |
  VIRTIO_F_INDIRECT_DESC |
  VIRTIO_F_EVENT_IDX |
  featureBits(VIRTIO_NET_F_MRG_RXBUF, VHOST_USER_F_PROTOCOL_FEATURES);
const RUNNING_STATUS =
  VIRTIO_CONFIG_S_ACKNOWLEDGE |
  VIRTIO_CONFIG_S_DRIVER |
  VIRTIO_CONFIG_S_FEATURES_OK |
  VIRTIO_CONFIG_S_DRIVER_OK;

export interface FrontendOptions {
  readonly native?: Native;
  readonly logger?: Logger;
  /** Default 1. */
  readonly queuePairs?: number;
  /** Descriptors per ring, a power of two. Default 256. */
  readonly ringSize?: number;
  /** At least this many bytes of RAM; more when the queues need more. */
  readonly ramBytes?: number;
  readonly ram?: RamOptions;
  /** Protocol features and virtio features not to use, to test a backend without them. */
  readonly withoutProtocolFeatures?: bigint;
  readonly withoutFeatures?: bigint;
  /** Longest wait for a reply. Default 5,000 ms. */
  readonly timeoutMs?: number;
  readonly onClosed?: (code: string, detail: string) => void;
  /** Takes requests of the backend; without it no channel for them is opened. */
  readonly onBackendRequest?: BackendRequestHandler;
}

interface Notifiers {
  readonly kick: number;
  readonly call: number;
}

/**
 * A vhost-user-net frontend that says what QEMU's says and drives the rings itself, in place of a
 * guest. It polls its rings, and signals kicks as the backend asks for them.
 */
export class NetFrontend {
  /** One per queue pair, from the first `start` on. */
  pairs: readonly NetQueuePair[] = [];
  /** What is in force after `start`. */
  features = 0n;
  protocolFeatures = 0n;
  private readonly native: Native;
  private readonly log: Logger;
  private readonly connection: FrontendConnection;
  private readonly ram: FrontendRam;
  private readonly notifiers: Notifiers[];
  private readonly ringSize: number;
  private readonly wanted: bigint;
  private readonly wantedProtocol: bigint;
  private readonly onBackendRequest: BackendRequestHandler | undefined;
  private channel: BackendChannel | undefined;

  /** Takes the socket over. */
  constructor(socket: NativeSocket, options: FrontendOptions = {}) {
    this.native = options.native ?? realNative;
    this.log = options.logger ?? silentLogger;
    const count = options.queuePairs ?? 1;
    this.ringSize = options.ringSize ?? 256;
    this.wanted = FEATURES & ~(options.withoutFeatures ?? 0n);
    this.onBackendRequest = options.onBackendRequest;
    const requests = this.onBackendRequest === undefined ? 0n : REQUEST_FEATURES;
    this.wantedProtocol = (PROTOCOL_FEATURES | requests) & ~(options.withoutProtocolFeatures ?? 0n);
    this.connection = new FrontendConnection(socket, {
      native: this.native,
      logger: this.log,
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
      onClosed: (code, detail) => options.onClosed?.(code, detail),
    });
    // Each region must hold what the last one does not.
    const needed = count * pairBytes(this.ringSize) * (options.ram?.regions ?? 1);
    this.ram = new FrontendRam(this.native, Math.max(needed, options.ramBytes ?? 0), options.ram);
    this.notifiers = Array.from({ length: 2 * count }, () => ({
      kick: this.native.createEventFd(),
      call: this.native.createEventFd(),
    }));
  }

  /** Connects to a backend's (or a device's) socket; throws the errno when nobody listens. */
  static connect(path: string, options: FrontendOptions = {}): NetFrontend {
    return new NetFrontend((options.native ?? realNative).connect(path), options);
  }

  /** Listens, and takes the first connection; for devices that connect themselves. */
  static accept(path: string, options: FrontendOptions = {}): Promise<NetFrontend> {
    const native = options.native ?? realNative;
    return new Promise((resolve, reject) => {
      const listener = native.listen(path, {}, (socket) => {
        listener.close();
        try {
          resolve(new NetFrontend(socket, options));
        } catch (error) {
          socket.close();
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }

  /** The frontend's RAM by guest address. */
  get guestMemory(): GuestMemory {
    return this.ram.memory;
  }

  get closed(): boolean {
    return this.connection.closed;
  }

  /** Totals over all queue pairs. */
  get totals(): NetCounters {
    const totals: NetCounters = { sent: 0, received: 0, bytes: 0, reordered: 0, corrupt: 0 };
    for (const { counters } of this.pairs) {
      totals.sent += counters.sent;
      totals.received += counters.received;
      totals.bytes += counters.bytes;
      totals.reordered += counters.reordered;
      totals.corrupt += counters.corrupt;
    }
    return totals;
  }

  /** Negotiates and starts all rings. To be called once. */
  async start(): Promise<void> {
    await this.negotiate();
    this.pairs = Array.from(
      { length: this.notifiers.length / 2 },
      (_, pair) =>
        new NetQueuePair(pair, this.ram, this.ringSize, this.features, (vring) => this.kick(vring)),
    );
    await this.connection.set(messages.SET_FEATURES, this.features);
    await this.shareMemory();
    for (const { receive, transmit } of this.pairs) {
      await this.startRing(receive.config);
      await this.startRing(transmit.config);
    }
    if (this.hasProtocol(VHOST_USER_PROTOCOL_F_STATUS)) {
      await this.connection.set(messages.SET_STATUS, BigInt(RUNNING_STATUS));
    }
    // A net backend discards what lies in a ring that is not enabled yet. A reply says that it has
    // seen everything before it, with or without acknowledgements.
    await this.connection.get(messages.GET_FEATURES, undefined);
    for (const pair of this.pairs) pair.fill();
    this.log.info({ queuePairs: this.pairs.length }, 'frontend started');
  }

  /**
   * Asks for dirty logging, as a VMM that begins to migrate does, in the order in which QEMU does.
   * @param file the log, one bit for each page of RAM; stays the caller's
   */
  async startLogging(file: { readonly fd: number; readonly size: number }): Promise<void> {
    const { connection } = this;
    const log = { mmapSize: BigInt(file.size), mmapOffset: 0n };
    await connection.get(messages.SET_LOG_BASE, log, [file.fd]);
    await connection.set(messages.SET_FEATURES, this.features | featureBit(VHOST_F_LOG_ALL));
    for (const { receive, transmit } of this.pairs) {
      await this.setAddresses(receive.config, 1 << VHOST_VRING_F_LOG);
      await this.setAddresses(transmit.config, 1 << VHOST_VRING_F_LOG);
    }
  }

  /** The end of logging: the migration is over, or was given up. */
  async stopLogging(): Promise<void> {
    await this.connection.set(messages.SET_FEATURES, this.features);
    for (const { receive, transmit } of this.pairs) {
      await this.setAddresses(receive.config, 0);
      await this.setAddresses(transmit.config, 0);
    }
  }

  /**
   * Stops all rings.
   * @returns the next available index per vring, as the backend reported it
   */
  async stop(): Promise<number[]> {
    const bases: number[] = [];
    for (let index = 0; index < this.notifiers.length; index++) {
      if (this.hasProtocolFeatures()) {
        await this.connection.set(messages.SET_VRING_ENABLE, { index, num: 0 });
      }
    }
    for (let index = 0; index < this.notifiers.length; index++) {
      const base = await this.connection.get(messages.GET_VRING_BASE, { index, num: 0 });
      bases.push(base.num);
    }
    if (this.hasProtocol(VHOST_USER_PROTOCOL_F_STATUS)) {
      await this.connection.set(messages.SET_STATUS, 0n);
    }
    return bases;
  }

  /** Takes the number of call signals of a vring since the last time. */
  takeCalls(vring: number): number {
    const notifiers = this.notifiers[vring];
    return notifiers === undefined ? 0 : this.native.readEventFd(notifiers.call);
  }

  /**
   * Opens the back-end channel in the place of an earlier one.
   * @throws VvuError `REFUSED`, scope `request`
   */
  async openChannel(): Promise<void> {
    const { onBackendRequest } = this;
    if (onBackendRequest === undefined) return;
    this.channel?.close();
    this.channel = new BackendChannel(this.native, this.log, onBackendRequest);
    await this.connection.set(messages.SET_BACKEND_REQ_FD, undefined, [this.channel.fd]);
    this.channel.handedOver();
  }

  /** Reads the configuration space, where the backend has it. */
  async readConfig(offset: number, length: number): Promise<Buffer> {
    const request = { offset, flags: 0, data: Buffer.alloc(length) };
    const reply = await this.connection.get(messages.GET_CONFIG, request);
    if (reply === undefined) throw new VvuError('REFUSED', 'request', 'no configuration space');
    return reply.data;
  }

  /**
   * Sizes of the shared memory regions that the backend fills with SHMEM_MAP, by shmid.
   * @throws VvuError where SHMEM was not offered
   */
  async sharedMemory(): Promise<readonly bigint[]> {
    const config = await this.connection.get(messages.GET_SHMEM_CONFIG, undefined);
    return config.memorySizes.slice(0, config.regions);
  }

  /** Drops the connection and frees everything. Idempotent. */
  close(): void {
    this.connection.close();
    this.channel?.close();
    this.ram.close();
    for (const { kick, call } of this.notifiers.splice(0)) {
      this.native.closeFd(kick);
      this.native.closeFd(call);
    }
  }

  private async negotiate(): Promise<void> {
    const { connection } = this;
    const offered = await connection.get(messages.GET_FEATURES, undefined);
    this.features = offered & this.wanted;
    if (this.hasProtocolFeatures()) {
      const protocol = await connection.get(messages.GET_PROTOCOL_FEATURES, undefined);
      this.protocolFeatures = protocol & this.wantedProtocol;
      await connection.set(messages.SET_PROTOCOL_FEATURES, this.protocolFeatures);
      connection.acknowledged = this.hasProtocol(VHOST_USER_PROTOCOL_F_REPLY_ACK);
    }
    if ((this.features & VIRTIO_F_VERSION_1) === 0n) {
      throw new VvuError('FEATURES', 'peer', 'the backend does not offer VERSION_1');
    }
    if (this.hasProtocol(VHOST_USER_PROTOCOL_F_BACKEND_REQ)) await this.openChannel();
    await connection.set(messages.SET_OWNER, undefined);
    await this.checkQueueNum();
  }

  private async checkQueueNum(): Promise<void> {
    if (!this.hasProtocol(VHOST_USER_PROTOCOL_F_MQ)) return;
    const most = await this.connection.get(messages.GET_QUEUE_NUM, undefined);
    if (most < BigInt(this.notifiers.length / 2)) {
      throw new VvuError('QUEUE_NUM', 'peer', `the backend has only ${most} queue pairs`);
    }
  }

  private async shareMemory(): Promise<void> {
    const { connection, ram } = this;
    if (this.hasProtocol(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
      await connection.get(messages.GET_MAX_MEM_SLOTS, undefined);
      for (const region of ram.regions)
        await connection.set(messages.ADD_MEM_REG, region, [ram.fd]);
    } else {
      const fds = ram.regions.map(() => ram.fd);
      await connection.set(messages.SET_MEM_TABLE, ram.regions, fds);
    }
  }

  private async startRing(config: NetQueuePair['receive']['config']): Promise<void> {
    const { connection } = this;
    const { index, size } = config;
    const notifiers = this.notifiers[index];
    if (notifiers === undefined) return;
    await connection.set(messages.SET_VRING_NUM, { index, num: size });
    await connection.set(messages.SET_VRING_BASE, { index, num: 0 });
    await this.setAddresses(config, 0);
    const fd = { index, noFd: false };
    await connection.set(messages.SET_VRING_CALL, fd, [notifiers.call]);
    await connection.set(messages.SET_VRING_KICK, fd, [notifiers.kick]);
    if (this.hasProtocolFeatures()) {
      await connection.set(messages.SET_VRING_ENABLE, { index, num: 1 });
    }
  }

  private setAddresses(config: NetQueuePair['receive']['config'], flags: number): Promise<void> {
    const { ram } = this;
    return this.connection.set(messages.SET_VRING_ADDR, {
      index: config.index,
      flags,
      descriptor: ram.userAddress(config.descriptorArea),
      used: ram.userAddress(config.deviceArea),
      available: ram.userAddress(config.driverArea),
      log: BigInt(config.deviceArea),
    });
  }

  private hasProtocol(feature: number): boolean {
    return (this.protocolFeatures & featureBit(feature)) !== 0n;
  }

  private hasProtocolFeatures(): boolean {
    return (this.features & featureBit(VHOST_USER_F_PROTOCOL_FEATURES)) !== 0n;
  }

  private kick(vring: number): void {
    const notifiers = this.notifiers[vring];
    if (notifiers !== undefined) this.native.signalEventFd(notifiers.kick);
  }
}
