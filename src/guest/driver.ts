import { EventEmitter } from 'eventemitter3';
import { VvuError, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import { native as realNative, type Native } from '../native.js';
import { VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_NEEDS_RESET } from '../virtio/constants.js';
import { findStructures, type DeviceStructures } from './capabilities.js';
import {
  COMMON_CONFIG_GENERATION,
  CONFIG_BYTES,
  CONFIG_MAX_VHOST_QUEUES,
  CONFIG_STATUS,
  CONFIG_UUID,
  MASTER_UP,
  SLAVE_UP,
} from './constants.js';
import { enableFunction, initializeDevice, resetDevice, type RunningQueues } from './initialize.js';
import { IntxNotifications } from './intx-notifications.js';
import {
  openNotifications,
  rfcWindow,
  type DoorbellRegister,
  type Notifications,
} from './notifications.js';
import type { InterruptHandle, PciAccess, WindowAccess } from './pci-access.js';
import { CommonConfig, Registers } from './registers.js';

export type { Doorbell, DoorbellRegister } from './notifications.js';

export interface DriverOptions {
  readonly logger?: Logger;
  readonly native?: Native;
  /**
   * How often `poll` reads the status register, in milliseconds: every read is a round trip to the
   * device. Default 10 when polling, 100 with interrupts (which make `poll` look at once).
   */
  readonly statusIntervalMs?: number;
  /**
   * Use MSI-X vector 0 for configuration changes and messages, if there is one, or else the access
   * object's INTx, for kicks too. Default false.
   */
  readonly interrupts?: boolean;
}

export interface DriverEvents {
  /** A frontend has connected: messages follow. */
  connected: () => void;
  /** The frontend has left, or the device was reset; nothing of it is valid any more. */
  disconnected: (reason: string) => void;
  /** One vhost-user message, header and payload, little-endian. */
  message: (bytes: Buffer) => void;
  /** A message was put on txq. */
  sent: (bytes: Uint8Array) => void;
}

/** How many reads of the link status go with one of device_status. */
const CHECKS_PER_RESET_CHECK = 16;

/**
 * Driver of a virtio-vhost-user device: status protocol, messages, doorbells, kicks and window.
 *
 * Nothing happens behind the caller's back: events are emitted from inside `poll`, which the caller
 * calls in its loop or when `interrupt` is signalled. The caller owns the access object.
 */
export class VvuDriver extends EventEmitter<DriverEvents> {
  readonly maxVhostQueues: number;
  /** 16 bytes, all zero for a device of the RFC, which has none. */
  readonly uuid: Buffer;
  /** The frontend's memory, addressed by window offset. */
  readonly window: WindowAccess;
  /** Signalled when `poll` should be called; undefined in poll mode. */
  readonly interrupt: InterruptHandle | undefined;
  private readonly intx: IntxNotifications | undefined;
  private intxDue = false;
  private readonly structures: DeviceStructures;
  private readonly common: CommonConfig;
  private readonly config: Registers;
  private readonly notifications: Notifications;
  private readonly log: Logger;
  private readonly statusIntervalMs: number;
  /** For configuration changes and messages. */
  private readonly vector: number | undefined;
  private queues: RunningQueues | undefined;
  private up = false;
  private started = false;
  private statusDue = 0;
  private checks = 0;

  /**
   * Finds the device behind `access`, resets it and brings it up; frontends may connect after
   * `start`.
   * @throws VvuError of scope `setup` when the function is no usable device
   */
  constructor(
    private readonly access: PciAccess,
    options: DriverOptions = {},
  ) {
    super();
    this.log = options.logger ?? silentLogger;
    enableFunction(access);
    this.structures = findStructures(access);
    this.common = new CommonConfig(access, this.structures.common);
    this.config = new Registers(access, this.structures.device);
    const useVector = options.interrupts === true && access.vectorCount > 0;
    if (options.interrupts === true && !useVector && access.intx !== undefined) {
      this.intx = new IntxNotifications(options.native ?? realNative, access.intx, this);
    }
    this.vector = useVector ? 0 : undefined;
    this.interrupt = useVector ? access.enableVector(0) : this.intx?.interrupt;
    this.statusIntervalMs = options.statusIntervalMs ?? (this.interrupt === undefined ? 10 : 100);
    this.queues = this.initialize();
    this.intx?.acknowledge();
    this.maxVhostQueues = this.config.read32(CONFIG_MAX_VHOST_QUEUES);
    this.uuid = this.readUuid();
    const { structures, common, maxVhostQueues } = this;
    this.notifications = openNotifications(access, structures, common, maxVhostQueues);
    const window = this.structures.window ?? rfcWindow(this.maxVhostQueues, access.barSize(2));
    this.window = access.openWindow(window.bar, window.offset, window.length);
  }

  /** Whether a frontend is connected, as far as `poll` has seen. */
  get connected(): boolean {
    return this.up;
  }

  /** Whether frontends are served: between `start` and `stop`. */
  get running(): boolean {
    return this.started;
  }

  /** Tells the device that the backend is up (SLAVE_UP). */
  start(): void {
    this.started = true;
    if (this.queues !== undefined) this.setSlaveUp();
  }

  /**
   * Takes the backend down until the next `start`; a frontend is disconnected, and others wait. To
   * be called from a listener of `disconnected` by whoever is not ready for the next frontend yet.
   */
  stop(reason: string): void {
    if (!this.started) return;
    this.started = false;
    if (this.queues === undefined) return;
    this.config.write32(CONFIG_STATUS, 0);
    this.setDown(reason);
    this.queues.rxq.discard();
  }

  /**
   * Looks at the status and handles up to `limit` messages. Takes no message while there is no
   * buffer for a reply, so a listener that sends one reply per message is never refused.
   *
   * A device that breaks the rules, or asks for it with NEEDS_RESET, is reset and set up again.
   * @returns how much was done: 0 when idle
   * @throws VvuError of scope `setup` when that fails, or whatever the access object throws when
   * the device is gone
   */
  poll(limit = 32): number {
    if (this.intxDue) this.acknowledge();
    if (!this.started || this.queues === undefined) return 0;
    try {
      return this.checkStatus(performance.now()) + this.receive(limit);
    } catch (error) {
      if (!(error instanceof VvuError) || error.scope !== 'device') throw error;
      this.recover(`${error.code}: ${error.message}`);
      return 1;
    }
  }

  /**
   * Makes the next `poll` read the status register; to be called when `interrupt` fired. Poll until
   * it returns 0 before waiting for the next interrupt, and now and then without one: a full txq
   * has no interrupt of its own.
   */
  expectChange(): void {
    this.statusDue = 0;
    this.intxDue = this.intx !== undefined;
  }

  /**
   * Sends a reply to the frontend.
   * @returns false when the device holds all buffers: try again after a `poll`
   */
  reply(message: Uint8Array): boolean {
    return this.transmit(message, 1);
  }

  /**
   * Sends a request of the backend to the frontend (SET_BACKEND_REQ_FD). Leaves a buffer for the
   * reply that a listener of `message` may owe meanwhile.
   * @returns false when the device holds the buffers: try again after a `poll`
   */
  request(message: Uint8Array): boolean {
    return this.transmit(message, 2);
  }

  /** The call eventfd of vring `index`. */
  doorbell(index: number): DoorbellRegister {
    return this.notifications.call(index);
  }

  /** The log eventfd. */
  logDoorbell(): DoorbellRegister {
    return this.notifications.log();
  }

  /** The err eventfd of vring `index`; undefined where the device has only the RFC's doorbells. */
  errDoorbell(index: number): DoorbellRegister | undefined {
    return this.notifications.err(index);
  }

  /**
   * Reads, and so clears, the ISR register: for polling without MSI-X. Bit 0 is a queue's, bit 1 a
   * configuration change's, bit 2 says that a frontend kicked some vring.
   */
  readIsr(): number {
    const { bar, offset } = this.structures.isr;
    return this.access.barRead(bar, offset, 1).readUInt8();
  }

  /**
   * The interrupt that the frontend's kicks of a vring fire (vector 1 + index), or undefined where
   * the vring has to be polled. With INTx it is signalled from inside `poll`.
   */
  kick(vring: number): InterruptHandle | undefined {
    if (this.intx !== undefined) return this.intx.kick(vring);
    const vector = 1 + vring;
    const { notifications, access } = this;
    if (!notifications.hasKickVectors || vector >= access.vectorCount) return undefined;
    const handle = access.enableVector(vector);
    return notifications.assignKickVector(vring, vector) ? handle : undefined;
  }

  /** Ends the connection with the frontend: the backend goes down and comes up again. */
  dropFrontend(reason: string): void {
    if (this.queues === undefined) return;
    this.config.write32(CONFIG_STATUS, 0);
    this.setDown(reason);
    this.queues.rxq.discard();
    this.comeUpAgain();
  }

  /** Takes the backend down and resets the device; the frontend is disconnected. */
  close(): void {
    const queues = this.queues;
    if (queues === undefined) return;
    this.queues = undefined;
    this.setDown('driver closed');
    try {
      this.intx?.close();
      resetDevice(this.common);
    } catch (error) {
      this.log.debug({ error: errorMessage(error) }, 'device is gone: nothing to reset');
    }
    queues.rxq.free();
    queues.txq.free();
  }

  private acknowledge(): void {
    this.intxDue = false;
    this.intx?.acknowledge();
  }

  private transmit(message: Uint8Array, buffers: number): boolean {
    if (!this.up || this.queues === undefined) return true;
    const { txq } = this.queues;
    const sent = txq.hasRoom(buffers) && txq.send(message);
    if (sent) this.emit('sent', message);
    return sent;
  }

  private initialize(): RunningQueues {
    let queues;
    try {
      queues = initializeDevice(this.access, this.structures, this.common, this.vector);
    } catch (error) {
      // §3.1.1: a driver that gives up says so.
      this.common.addStatus(VIRTIO_CONFIG_S_FAILED);
      throw error;
    }
    if (this.interrupt === undefined) queues.rxq.disableInterrupts();
    else queues.rxq.enableInterrupts();
    return queues;
  }

  /** Read under config_generation, because it takes more than one access (§4.1.4.3.1). */
  private readUuid(): Buffer {
    const uuid = Buffer.alloc(16);
    if (this.structures.device.length < CONFIG_BYTES) return uuid;
    for (let attempt = 0; attempt < 10; attempt++) {
      const generation = this.common.read8(COMMON_CONFIG_GENERATION);
      for (let i = 0; i < 16; i += 4) {
        uuid.writeUInt32LE(this.config.read32(CONFIG_UUID + i), i);
      }
      if (this.common.read8(COMMON_CONFIG_GENERATION) === generation) break;
    }
    return uuid;
  }

  private setSlaveUp(): void {
    this.config.write32(CONFIG_STATUS, SLAVE_UP);
    this.statusDue = 0;
  }

  private setDown(reason: string): void {
    if (!this.up) return;
    this.up = false;
    this.log.info({ reason }, 'frontend left');
    this.emit('disconnected', reason);
  }

  private checkStatus(now: number): number {
    if (now < this.statusDue) return 0;
    this.statusDue = now + this.statusIntervalMs;
    const status = this.config.read32(CONFIG_STATUS);
    const slaveDown = (status & SLAVE_UP) === 0;
    // A device in trouble drops its frontend, so the second register is rarely worth a round trip.
    if (slaveDown || this.checks++ % CHECKS_PER_RESET_CHECK === 0) this.checkNeedsReset();
    if (slaveDown) {
      // The device cleared both bits when the frontend left. What is still in rxq is stale.
      this.setDown('frontend disconnected');
      this.queues?.rxq.discard();
      this.comeUpAgain();
      return 1;
    }
    if ((status & MASTER_UP) !== 0) {
      if (this.up) return 0;
      this.up = true;
      this.log.info({}, 'frontend connected');
      this.emit('connected');
      return 1;
    }
    this.setDown('frontend disconnected');
    return 0;
  }

  private checkNeedsReset(): void {
    if ((this.common.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) {
      throw new VvuError('NEEDS_RESET', 'device', 'the device asks for a reset');
    }
  }

  private receive(limit: number): number {
    let done = 0;
    while (done < limit && this.queues?.txq.hasRoom() === true) {
      const message = this.queues.rxq.take() ?? this.takeBeforeSleep(this.queues);
      if (message === undefined) break;
      done++;
      // The message may have overtaken the status change that it belongs to. An empty one only
      // says that the frontend left.
      if (!this.up || message.length === 0) {
        this.statusDue = 0;
        this.checkStatus(performance.now());
      }
      if (this.up && message.length > 0) this.emit('message', message);
    }
    return done;
  }

  private takeBeforeSleep(queues: RunningQueues): Buffer | undefined {
    if (this.interrupt === undefined || !queues.rxq.enableInterrupts()) return undefined;
    return queues.rxq.take();
  }

  private recover(reason: string): void {
    this.log.warn({ reason }, 'device is reset');
    const old = this.queues;
    this.queues = undefined;
    this.setDown(reason);
    resetDevice(this.common);
    old?.rxq.free();
    old?.txq.free();
    this.queues = this.initialize();
    this.comeUpAgain();
  }

  /** Unless a listener stopped the driver meanwhile. */
  private comeUpAgain(): void {
    if (this.started) this.setSlaveUp();
  }
}
