/**
 * The device's side of a split virtqueue (virtio 1.3 §2.7).
 *
 * Memory ordering: `avail.idx` is an acquire load, so the ring entries and descriptors read after
 * it are those that the driver wrote before it; `used.idx` is a release store. Where one side
 * stores its index and then asks whether the other side wants to hear of it, a full fence stands
 * between the two (§2.7.7.2 and §2.7.10.2); without it both could miss each other.
 */
import { VvuError } from '../errors.js';
import type { GuestMemory, Iova, QueueConfig } from './ports.js';
import {
  INDEX_OFFSET,
  RING_OFFSET,
  USED_ELEMENT_BYTES,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_F_NO_NOTIFY,
  availEventOffset,
  checkQueueConfig,
  needsEvent,
  usedEventOffset,
} from './ring-constants.js';
import { ChainReader, type Chain } from './split-queue-chain.js';

export { readChain, writeChain, type Chain, type Segment } from './split-queue-chain.js';

/** Entries of the available ring per access. */
const ENTRY_BATCH = 32;

/** Where a queue goes on that ran before (vhost-user's SET_VRING_BASE). Both default to 0. */
export interface QueuePosition {
  /** Index of the next available entry, 0..65535. */
  readonly available: number;
  /** Value of `used.idx`. */
  readonly used: number;
}

/** Keeps account of buffers for whoever serves the queue when this process has died. */
export interface InflightTracker {
  /** A buffer was taken. It counts as taken also when it is put back: `taken` comes again. */
  taken(head: number): void;
  /** A buffer is going to be published by the next `flush`. */
  used(head: number): void;
  /** The buffers since the last time are published; `used` is the new `used.idx`. */
  published(used: number): void;
}

export interface QueueStart extends QueuePosition {
  /** Heads of buffers that were taken before and not returned: `pop` gives them first. */
  readonly resubmit?: readonly number[];
  readonly tracker?: InflightTracker;
}

/**
 * Not reentrant, single consumer. After an error nothing was consumed: the next `pop` reports the
 * same error again, so a caller that stops at the first one is safe.
 *
 * VIRTIO_F_IN_ORDER needs no code here: a caller that pushes in the order of `pop` conforms.
 */
export class SplitQueue {
  readonly index: number;
  readonly size: number;
  private readonly mask: number;
  private readonly memory: GuestMemory;
  private readonly avail: Iova;
  private readonly used: Iova;
  private readonly eventIndex: boolean;
  private readonly chains: ChainReader;
  /** Used elements that wait for `flush`, at their places in the ring. */
  private readonly elements: Buffer;
  /** Entries of the available ring from `entriesFrom` on, fetched together. */
  private readonly entries = Buffer.alloc(2 * ENTRY_BATCH);
  private entriesFrom = 0;
  private entriesCount = 0;
  private nextAvail: number;
  /** The last `avail.idx` that was loaded and checked. */
  private seenAvail: number;
  private nextUsed: number;
  private publishedUsed: number;
  private inFlight = 0;
  private readonly tracker: InflightTracker | undefined;
  private readonly resubmit: readonly number[];
  private resubmitted = 0;
  /** Buffers popped from the available ring, and not put back: those come after `resubmit`. */
  private fromRing = 0;
  /** The first publication always notifies: what the driver saw of an earlier run is unknown. */
  private notifiedOnce = false;

  /** @throws VvuError of scope `device` when the driver's configuration is invalid */
  constructor(memory: GuestMemory, config: QueueConfig, features: bigint, start?: QueueStart) {
    checkQueueConfig(config);
    this.index = config.index;
    this.size = config.size;
    this.mask = config.size - 1;
    this.memory = memory;
    this.avail = config.driverArea;
    this.used = config.deviceArea;
    this.eventIndex = (features & VIRTIO_F_EVENT_IDX) !== 0n;
    this.chains = new ChainReader(
      memory,
      config.descriptorArea,
      config.size,
      (features & VIRTIO_F_INDIRECT_DESC) !== 0n,
    );
    this.elements = Buffer.alloc(config.size * USED_ELEMENT_BYTES);
    this.nextAvail = this.seenAvail = (start?.available ?? 0) & 0xffff;
    this.nextUsed = this.publishedUsed = (start?.used ?? 0) & 0xffff;
    this.resubmit = start?.resubmit ?? [];
    this.tracker = start?.tracker;
  }

  /** Index of the next entry that `pop` takes, for GET_VRING_BASE. */
  get position(): QueuePosition {
    return { available: this.nextAvail, used: this.nextUsed };
  }

  /** Buffers that were popped and neither pushed nor put back. */
  get outstanding(): number {
    return this.inFlight;
  }

  /**
   * Number of entries that can be popped now.
   * @throws VvuError `AVAIL_INDEX`, scope `device`: more buffers than the queue can hold
   */
  available(): number {
    const index = this.memory.loadU16(this.avail + INDEX_OFFSET);
    const count = (index - this.nextAvail) & 0xffff;
    const unflushed = (this.nextUsed - this.publishedUsed) & 0xffff;
    const again = this.resubmit.length - this.resubmitted;
    if (count + again + this.inFlight + unflushed > this.size) {
      throw new VvuError(
        'AVAIL_INDEX',
        'device',
        `queue ${this.index}: avail.idx ${index} after ${this.nextAvail}, ` +
          `${this.inFlight} of ${this.size} in flight`,
      );
    }
    if (index !== this.seenAvail) {
      this.seenAvail = index;
      this.chains.refresh();
    }
    return count + again;
  }

  /**
   * Takes the next buffer, or undefined when there is none.
   * @throws VvuError of scope `device`: a broken ring or chain, or memory that is not mapped
   */
  pop(): Chain | undefined {
    if (this.resubmitted < this.resubmit.length) return this.popAgain();
    if (this.seenAvail === this.nextAvail && this.available() === 0) return undefined;
    const chain = this.chains.read(this.nextHead());
    this.tracker?.taken(chain.head);
    this.nextAvail = (this.nextAvail + 1) & 0xffff;
    this.fromRing++;
    this.inFlight++;
    return chain;
  }

  private popAgain(): Chain {
    const chain = this.chains.read(this.resubmit[this.resubmitted] ?? 0);
    this.tracker?.taken(chain.head);
    this.resubmitted++;
    this.inFlight++;
    return chain;
  }

  /** The head at `nextAvail`, which is known to be available and so does not change any more. */
  private nextHead(): number {
    let at = (this.nextAvail - this.entriesFrom) & 0xffff;
    if (at >= this.entriesCount) {
      const slot = this.nextAvail & this.mask;
      const ready = (this.seenAvail - this.nextAvail) & 0xffff;
      const count = Math.min(ready, this.size - slot, ENTRY_BATCH);
      const target = count === ENTRY_BATCH ? this.entries : this.entries.subarray(0, 2 * count);
      this.entriesCount = 0;
      this.memory.readInto(this.avail + RING_OFFSET + 2 * slot, target);
      this.entriesFrom = this.nextAvail;
      this.entriesCount = count;
      at = 0;
    }
    return this.entries.readUInt16LE(2 * at);
  }

  /**
   * Takes up to `limit` buffers, appending them to `into`.
   * @returns how many; those before a broken one stay in `into` when this throws
   */
  popMany(into: Chain[], limit: number): number {
    let count = 0;
    while (count < limit) {
      const chain = this.pop();
      if (chain === undefined) break;
      into.push(chain);
      count++;
    }
    return count;
  }

  /**
   * Puts back the `count` newest popped buffers, unused: `pop` will return them again. None of them
   * may have been pushed.
   */
  unpop(count = 1): void {
    if (count > this.inFlight) {
      throw new VvuError('NOT_IN_FLIGHT', 'bug', `queue ${this.index}: cannot put back ${count}`);
    }
    const toRing = Math.min(count, this.fromRing);
    this.inFlight -= count;
    this.fromRing -= toRing;
    this.resubmitted -= count - toRing;
    this.nextAvail = (this.nextAvail - toRing) & 0xffff;
  }

  /**
   * Returns a buffer with `written` bytes in its writable part. The driver sees it after `flush`.
   */
  push(chain: Chain, written: number): void {
    if (this.inFlight === 0) {
      throw new VvuError('NOT_IN_FLIGHT', 'bug', `queue ${this.index}: nothing to push`);
    }
    const at = (this.nextUsed & this.mask) * USED_ELEMENT_BYTES;
    this.elements.writeUInt32LE(chain.head, at);
    this.elements.writeUInt32LE(written, at + 4);
    this.nextUsed = (this.nextUsed + 1) & 0xffff;
    this.inFlight--;
    this.tracker?.used(chain.head);
  }

  /**
   * Publishes what was pushed.
   * @returns whether the driver has to be notified (used-buffer notification)
   */
  flush(): boolean {
    const previous = this.publishedUsed;
    if (this.nextUsed === previous) return false;
    this.writeElements(previous, (this.nextUsed - previous) & 0xffff);
    this.memory.storeU16(this.used + INDEX_OFFSET, this.nextUsed);
    this.publishedUsed = this.nextUsed;
    this.tracker?.published(this.nextUsed);
    return this.needsNotification(previous);
  }

  private writeElements(from: number, count: number): void {
    const first = from & this.mask;
    const head = Math.min(count, this.size - first);
    this.writeElementRange(first, first + head);
    if (count > head) this.writeElementRange(0, count - head);
  }

  private writeElementRange(from: number, to: number): void {
    this.memory.write(
      this.used + RING_OFFSET + from * USED_ELEMENT_BYTES,
      this.elements.subarray(from * USED_ELEMENT_BYTES, to * USED_ELEMENT_BYTES),
    );
  }

  private needsNotification(previous: number): boolean {
    this.memory.fence();
    if (!this.eventIndex) {
      return (this.memory.loadU16(this.avail) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    if (!this.notifiedOnce) {
      this.notifiedOnce = true;
      return true;
    }
    const event = this.memory.loadU16(this.avail + usedEventOffset(this.size));
    return needsEvent(event, this.publishedUsed, previous);
  }

  /**
   * Asks the driver to kick at the next buffer it adds.
   * @returns true when buffers came in the meantime: they will not be kicked, so process them now
   */
  enableKicks(): boolean {
    if (this.eventIndex) {
      this.memory.storeU16(this.used + availEventOffset(this.size), this.nextAvail);
    } else {
      this.memory.storeU16(this.used, 0);
    }
    this.memory.fence();
    return this.available() > 0;
  }

  /**
   * Asks the driver not to kick; a hint only. With event indices nothing has to be written: an old
   * `avail_event` stays silent (§2.7.10).
   */
  disableKicks(): void {
    if (!this.eventIndex) this.memory.storeU16(this.used, VIRTQ_USED_F_NO_NOTIFY);
  }
}
