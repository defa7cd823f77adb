import { EventEmitter } from 'eventemitter3';
import { VvuError, errorCode, errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import { silentLogger } from '../log.js';
import type { Native } from '../native.js';
import type { FrontendEndpoint, TunnelSession } from '../tunnel/ports.js';
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
} from '../virtio/constants.js';
import type { DriverPort, QueueConfig, VirtioDevice } from '../virtio/ports.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from '../virtio/ring-constants.js';
import { SplitQueue } from '../virtio/split-queue.js';
import { FrontendAttachment } from './attachment.js';
import type { StatusWrite } from './config.js';
import { DeviceConfig } from './config.js';
import {
  DEFAULT_MAX_VHOST_QUEUES,
  MAX_VHOST_QUEUES,
  QUEUE_SIZE_MAX,
  RXQ,
  TXQ,
  VIRTIO_ID_VHOST_USER,
} from './constants.js';
import { formatUuid } from './identity.js';
import type { LinkEvent, LinkState } from './link.js';
import { linkStatus, nextLinkState } from './link.js';
import type { DeviceHost, ShownWindowRegion } from './ports.js';
import { ReceiveQueue, TransmitQueue } from './queues.js';

export interface DeviceOptions {
  readonly native: Native;
  /** Doorbells, kicks and window as the host can show them. */
  readonly host: DeviceHost;
  /** Where frontends connect; opened by the caller, closed by {@link VhostUserDevice.close}. */
  readonly endpoint: FrontendEndpoint;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** Vrings that a frontend may use, 1..1024, default 256. */
  readonly maxVhostQueues?: number;
  /** Default 24, the RFC's. */
  readonly virtioId?: number;
  readonly logger?: Logger;
}

export interface DeviceEvents {
  'frontend-connected': () => void;
  'frontend-disconnected': (code: string, detail: string) => void;
  'memory-table': (regions: readonly ShownWindowRegion[]) => void;
  'needs-reset': (reason: string) => void;
}

/**
 * The virtio-vhost-user device on ports: it knows no PCI, no hypervisor and no socket.
 *
 * Everything runs on the loop of the thread that made it. A reset, by whatever means, ends the
 * frontend's session before it returns.
 */
export class VhostUserDevice implements VirtioDevice {
  readonly virtioId: number;
  readonly features =
    VIRTIO_F_VERSION_1 |
    VIRTIO_F_ACCESS_PLATFORM |
    VIRTIO_F_RING_RESET |
    VIRTIO_F_INDIRECT_DESC |
    VIRTIO_F_EVENT_IDX;
  readonly queueMaxSizes = [QUEUE_SIZE_MAX, QUEUE_SIZE_MAX];
  readonly config: DeviceConfig;
  readonly maxVhostQueues: number;
  /** Doorbells, kicks and memory of the connected frontend. */
  readonly frontend: FrontendAttachment;
  readonly events = new EventEmitter<DeviceEvents>();
  readonly #endpoint: FrontendEndpoint;
  readonly #log: Logger;
  #port: DriverPort | undefined;
  #negotiated = 0n;
  #started = false;
  /** A driver error was reported; only a reset helps. */
  #broken = false;
  #slaveUp = false;
  #state: LinkState = 'down';
  #session: TunnelSession | undefined;
  #rxq: ReceiveQueue | undefined;
  #txq: TransmitQueue | undefined;

  constructor(options: DeviceOptions) {
    const max = options.maxVhostQueues ?? DEFAULT_MAX_VHOST_QUEUES;
    if (!Number.isInteger(max) || max < 1 || max > MAX_VHOST_QUEUES) {
      throw new VvuError('BAD_QUEUES', 'setup', `max_vhost_queues ${max} is not in 1..1024`);
    }
    this.maxVhostQueues = max;
    this.virtioId = options.virtioId ?? VIRTIO_ID_VHOST_USER;
    this.#log = options.logger ?? silentLogger;
    this.config = new DeviceConfig(
      max,
      options.uuid,
      (write) => this.#statusWritten(write),
      (bits) => this.#fail('BAD_STATUS', `driver set unknown status bits 0x${bits.toString(16)}`),
    );
    this.frontend = new FrontendAttachment(options.native, options.host, max, {
      toGuest: (message) => this.#toGuest(message),
      dropFrontend: (reason) => this.#session?.close(reason),
      memoryChanged: (regions) => this.#memoryChanged(regions),
      sessionClosed: (session, code, detail) => this.#sessionClosed(session, code, detail),
    });
    this.#endpoint = options.endpoint;
    this.#endpoint.attach(this.frontend, (session) => this.#connected(session));
    this.#log.debug({ uuid: formatUuid(options.uuid), maxVhostQueues: max }, 'device made');
  }

  /** State of the connection between the backend (the guest's driver) and a frontend. */
  get state(): LinkState {
    return this.#state;
  }

  attach(port: DriverPort): void {
    this.#port = port;
  }

  acceptFeatures(features: bigint): boolean {
    this.#negotiated = features;
    return true;
  }

  enableQueue(config: QueueConfig): void {
    const port = this.#port;
    if (!port) return;
    this.#guard(() => {
      const queue = new SplitQueue(port.memory, config, this.#negotiated);
      if (config.index === RXQ) this.#rxq = new ReceiveQueue(queue, port);
      else if (config.index === TXQ) this.#txq = new TransmitQueue(queue, port);
    });
  }

  resetQueue(index: number): void {
    if (index === RXQ) this.#rxq = undefined;
    else if (index === TXQ) this.#txq = undefined;
  }

  start(): void {
    this.#started = true;
    this.#updateLink();
  }

  kick(index: number): void {
    if (!this.#started || this.#broken) return;
    if (index === RXQ) this.#session?.roomInRxq();
    else if (index === TXQ) this.#drainTxq();
  }

  reset(): void {
    this.#rxq = undefined;
    this.#txq = undefined;
    this.#started = false;
    this.#slaveUp = false;
    this.#negotiated = 0n;
    this.#event('driver-down', 'device reset');
    this.frontend.kicks.reset();
    this.frontend.notificationRegisters.reset();
    this.#broken = false;
  }

  /** Ends the session and the endpoint; resolves when the window is empty and all fds are closed. */
  async close(): Promise<void> {
    this.reset();
    this.#endpoint.close();
    await this.frontend.release();
  }

  // Status protocol

  #statusWritten({ slaveUp }: StatusWrite): void {
    this.#slaveUp = slaveUp;
    this.#updateLink();
  }

  #updateLink(): void {
    if (!this.#started || this.#broken) return;
    if (this.#slaveUp) this.#event('driver-up', 'driver set SLAVE_UP');
    else this.#event('driver-down', 'driver cleared SLAVE_UP');
  }

  #event(event: LinkEvent, reason: string): void {
    const next = nextLinkState(this.#state, event);
    if (next === undefined) return;
    const last = this.#state;
    this.#state = next;
    this.config.status = linkStatus(next);
    this.#log.debug({ from: last, to: next, reason }, 'link');
    if (next === 'waiting') {
      // What the driver queued before it came up belongs to an older connection.
      this.#drainTxq();
      // A txq that turned out to be broken has taken the link down again.
      if (this.#state === 'waiting') this.#endpoint.want(true);
    } else if (next === 'down') {
      // Its end is the driver's doing here, and nothing that the driver has to be told.
      this.#dropSession(reason);
      this.#endpoint.want(false);
    }
  }

  #connected(session: TunnelSession): void {
    if (this.#state !== 'waiting') {
      session.close(`backend is ${this.#state}`);
      return;
    }
    this.#session = session;
    session.onRoom = () => this.#drainTxq();
    this.#event('frontend-connected', 'frontend connected');
    this.#log.info({}, 'frontend connected');
    this.events.emit('frontend-connected');
    this.#port?.notifyConfig();
    session.start();
  }

  #sessionClosed(session: TunnelSession, code: string, detail: string): void {
    if (session !== this.#session) return;
    this.#session = undefined;
    this.#slaveUp = false;
    this.#event('frontend-left', detail);
    this.#disconnected(code, detail);
    this.#port?.notifyConfig();
  }

  #dropSession(reason: string): void {
    const session = this.#session;
    if (!session) return;
    this.#session = undefined;
    session.close(reason);
    this.#disconnected('BACKEND_DOWN', reason);
  }

  #disconnected(code: string, detail: string): void {
    this.#log.info({ code, detail }, 'frontend disconnected');
    this.frontend.release().catch((error: unknown) => {
      this.#log.warn({ error: errorMessage(error) }, 'window could not be emptied');
    });
    this.events.emit('frontend-disconnected', code, detail);
  }

  // Messages

  #toGuest(message: Uint8Array): boolean {
    try {
      return this.#rxq?.put(message) ?? false;
    } catch (error) {
      if (error instanceof VvuError && error.scope === 'peer') throw error;
      this.#failWith(error);
      return false;
    }
  }

  #drainTxq(): void {
    const queue = this.#txq;
    this.#guard(() => {
      const more = queue?.drain((message) => {
        if (this.#session && this.#state === 'connected') return this.#session.fromGuest(message);
        this.#log.debug({ bytes: message.length }, 'stale txq message dropped');
        return true;
      });
      if (more) setImmediate(() => this.#drainLater(queue));
    });
  }

  /** The driver adds messages as fast as they are taken: whoever else waits gets a turn first. */
  #drainLater(queue: TransmitQueue | undefined): void {
    if (queue === this.#txq && this.#started && !this.#broken) this.#drainTxq();
  }

  #memoryChanged(regions: readonly ShownWindowRegion[]): void {
    const table = regions.map(
      ({ region: { role, guestAddress, length }, placement: { offset, kind } }) =>
        `${guestAddress === undefined ? role : `guest 0x${guestAddress.toString(16)}`} ` +
        `+ 0x${length.toString(16)} at 0x${offset.toString(16)} (${kind})`,
    );
    this.#log.info({ regions: table }, 'memory table');
    this.events.emit('memory-table', regions);
  }

  // Errors of the driver

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failWith(error);
    }
  }

  #failWith(error: unknown): void {
    this.#fail(errorCode(error), errorMessage(error));
  }

  /** The driver broke the rules: tell it, and let go of the frontend. */
  #fail(code: string, reason: string): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#log.error({ code, reason }, 'device needs reset');
    this.#event('driver-down', reason);
    this.#port?.needsReset(reason);
    this.events.emit('needs-reset', reason);
  }
}
