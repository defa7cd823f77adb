/** One vring of a vhost-user backend: what the frontend said of it, and the running queue. */
import { VvuError } from '../errors.js';
import { VHOST_VRING_F_LOG, type VringAddress } from '../vhost-user/index.js';
import type { GuestMemory, QueueConfig } from '../virtio/ports.js';
import {
  INDEX_OFFSET,
  checkQueueConfig,
  descriptorAreaBytes,
  deviceAreaBytes,
  driverAreaBytes,
} from '../virtio/ring-constants.js';
import { SplitQueue } from '../virtio/split-queue.js';
import type { DirtyLog } from './dirty-log.js';
import type { FrontendMemory } from './frontend-memory.js';
import type { InflightArea } from './inflight.js';
import type { Doorbell } from './notifications.js';

/** A started ring, as a device model sees it. Valid until the model's `queueStopped` returns. */
export interface BackendQueue {
  readonly index: number;
  readonly ring: SplitQueue;
  readonly memory: GuestMemory;
  /**
   * Disabled rings have no effects: a net device supplies no packets and discards those it gets
   * ("Ring states" of the vhost-user specification).
   */
  readonly enabled: boolean;
  /** Publishes what was pushed, and signals the frontend if it wants to know. */
  flush(): void;
  /** The ring is unusable (the frontend broke it): it is not served again until it is restarted. */
  fail(error: unknown): void;
  readonly failed: boolean;
}

export interface StartOptions {
  /** Accepted virtio features. */
  readonly features: bigint;
  /** Whether the device uses buffers in the order in which they became available. */
  readonly inOrder: boolean;
  readonly doorbell: Doorbell;
  /** The frontend's log, if it has given one. */
  readonly log: () => DirtyLog | undefined;
  /** Where the frontend keeps account of requests in flight, if it does. */
  readonly inflight: InflightArea | undefined;
  readonly onFailure: (error: unknown) => void;
}

/** State between SET_VRING_* messages. A ring runs once it has a size, addresses and a kick. */
export class Vring {
  size = 0;
  base = 0;
  addresses: VringAddress | undefined;
  /** SET_VRING_KICK came: with an eventfd, or with the request to poll. */
  kick = false;
  /** SET_VRING_CALL gave an eventfd, which the doorbell signals. */
  call = false;
  enabled = false;
  running: RunningQueue | undefined;

  constructor(readonly index: number) {}

  get ready(): boolean {
    return this.size > 0 && this.addresses !== undefined && this.kick;
  }

  /** Back to the state of a new connection. The ring must be stopped. */
  reset(): void {
    this.size = 0;
    this.base = 0;
    this.addresses = undefined;
    this.kick = false;
    this.call = false;
    this.enabled = false;
  }

  /**
   * Starts the ring. A device that uses buffers in order goes on behind the last used one, even if
   * the frontend names another place: then a backend was lost before it could report its own. One
   * that does not finds in the in-flight area what the backend before it has left.
   * @throws VvuError of scope `request` or `device`
   */
  start(memory: FrontendMemory, options: StartOptions): RunningQueue {
    const config = this.locate(memory);
    const used = memory.loadU16(config.deviceArea + INDEX_OFFSET);
    const tracker = options.inflight?.queue(this.index, this.size);
    const resubmit = tracker?.recover(used);
    const position = options.inOrder ? used : this.base;
    const available = resubmit === undefined ? position : used + resubmit.length;
    const ring = new SplitQueue(memory, config, options.features, {
      ...{ available, used },
      ...(resubmit === undefined ? {} : { resubmit }),
      ...(tracker === undefined ? {} : { tracker }),
    });
    this.running = new RunningQueue(this, config, ring, memory, options);
    return this.running;
  }

  /** Whether the running ring is no longer where it was. */
  moved(memory: FrontendMemory): boolean {
    const old = this.running?.config;
    try {
      const now = this.locate(memory);
      return (
        now.descriptorArea !== old?.descriptorArea ||
        now.driverArea !== old.driverArea ||
        now.deviceArea !== old.deviceArea
      );
    } catch {
      return true;
    }
  }

  /** Where the ring lies in guest addresses; throws when the table does not hold it. */
  locate(memory: FrontendMemory): QueueConfig {
    const { addresses, index, size } = this;
    if (addresses === undefined) throw new VvuError('RING_ADDRESS', 'request', 'no addresses');
    const config = {
      index,
      size,
      descriptorArea: memory.translateUser(addresses.descriptor, descriptorAreaBytes(size)),
      driverArea: memory.translateUser(addresses.available, driverAreaBytes(size)),
      deviceArea: memory.translateUser(addresses.used, deviceAreaBytes(size)),
    };
    checkQueueConfig(config);
    return config;
  }
}

export class RunningQueue implements BackendQueue {
  failed = false;
  private markedUsed: number;

  constructor(
    private readonly vring: Vring,
    readonly config: QueueConfig,
    readonly ring: SplitQueue,
    readonly memory: GuestMemory,
    private readonly options: StartOptions,
  ) {
    this.markedUsed = ring.position.used;
  }

  get index(): number {
    return this.vring.index;
  }

  get enabled(): boolean {
    return this.vring.enabled;
  }

  flush(): void {
    const notify = this.ring.flush();
    this.markUsed();
    if (notify && this.vring.call) this.options.doorbell.ring();
  }

  /** VHOST_VRING_F_LOG: the used ring is dirty at log_guest_addr, which need not be its address. */
  private markUsed(): void {
    const { addresses } = this.vring;
    const { used } = this.ring.position;
    if (used === this.markedUsed || addresses === undefined) return;
    this.markedUsed = used;
    if ((addresses.flags & (1 << VHOST_VRING_F_LOG)) === 0) return;
    this.options.log()?.mark(Number(addresses.log), deviceAreaBytes(this.config.size));
  }

  fail(error: unknown): void {
    if (this.failed) return;
    this.failed = true;
    this.options.onFailure(error);
  }
}
