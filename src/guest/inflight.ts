/** In-flight tracking of split rings, so that a backend that comes after a crash loses no request. */
import { VvuError } from '../errors.js';
import {
  hex,
  INFLIGHT_DESC_SPLIT_COUNTER,
  INFLIGHT_DESC_SPLIT_INFLIGHT,
  INFLIGHT_DESC_SPLIT_NEXT,
  INFLIGHT_DESC_SPLIT_SIZE,
  INFLIGHT_SPLIT_DESC,
  INFLIGHT_SPLIT_DESC_NUM,
  INFLIGHT_SPLIT_LAST_BATCH_HEAD,
  INFLIGHT_SPLIT_USED_IDX,
  INFLIGHT_SPLIT_VERSION,
  INFLIGHT_VERSION,
  splitRegionSize,
  type Inflight,
} from '../vhost-user/index.js';
import type { InflightTracker } from '../virtio/split-queue.js';
import type { WindowAccess } from './pci-access.js';

function invalid(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

/** The buffer of GET_INFLIGHT_FD or SET_INFLIGHT_FD, which the device shows in the window. */
export class InflightArea {
  private readonly start: number;

  /**
   * @param place mmap_offset is the buffer's place in the window
   * @throws VvuError `INFLIGHT_RANGE`, scope `request`: it is not in the window, or too small
   */
  constructor(
    private readonly window: Pick<WindowAccess, 'size' | 'memory'>,
    private readonly place: Inflight,
  ) {
    const { mmapSize, mmapOffset, numQueues, queueSize } = place;
    const inside = mmapOffset + mmapSize <= BigInt(window.size);
    if (queueSize === 0 || !inside || mmapSize < BigInt(this.bytes)) {
      const what = `${hex(mmapSize)} bytes at ${hex(mmapOffset)} for ${numQueues} queues`;
      throw invalid('INFLIGHT_RANGE', `an in-flight buffer of ${what} of ${queueSize}`);
    }
    this.start = Number(mmapOffset);
  }

  /** What the split layout takes of the buffer. */
  get bytes(): number {
    return this.place.numQueues * splitRegionSize(this.place.queueSize);
  }

  /**
   * The region of one ring.
   * @throws VvuError `INFLIGHT_QUEUE`, scope `request`: the buffer was made for fewer or smaller ones
   */
  queue(index: number, size: number): InflightQueue {
    const { numQueues, queueSize } = this.place;
    if (index >= numQueues || size > queueSize) {
      const what = `ring ${index} of ${size} descriptors in a buffer for ${numQueues} of ${queueSize}`;
      throw invalid('INFLIGHT_QUEUE', what);
    }
    const at = this.start + index * splitRegionSize(queueSize);
    return new InflightQueue(this.window.memory, at, index, size, queueSize);
  }
}

/**
 * One `QueueRegionSplit`. Steps are those of "To track inflight I/O"; each is whole when the process
 * dies between two of them. The frontend can write to the region, so nothing in it is trusted.
 */
export class InflightQueue implements InflightTracker {
  private readonly batch: number[] = [];
  /** Descriptors whose flag is set; one that is taken again after it was put back keeps its turn. */
  private readonly flagged: Uint8Array;
  private readonly byte = Buffer.alloc(1);
  private readonly word = Buffer.alloc(8);
  private counter = 0n;
  private lastBatchHead = 0;

  constructor(
    private readonly memory: WindowAccess['memory'],
    private readonly start: number,
    private readonly index: number,
    /** Descriptors of the ring. */
    private readonly size: number,
    /** Entries of the region, at least as many. */
    private readonly entries: number,
  ) {
    this.flagged = new Uint8Array(size);
  }

  /**
   * "When reconnecting": what was taken and not returned, in the order in which it was taken. Sets up
   * a region that is new.
   * @param used `used.idx` of the ring
   * @returns undefined for a new region: then the frontend's own position counts
   * @throws VvuError `INFLIGHT_STATE`, scope `request`: the region is not what a backend left
   */
  recover(used: number): readonly number[] | undefined {
    const region = this.memory.read(this.start, splitRegionSize(this.entries));
    const version = region.readUInt16LE(INFLIGHT_SPLIT_VERSION);
    if (version === 0) {
      this.initialize(used);
      return undefined;
    }
    const entries = region.readUInt16LE(INFLIGHT_SPLIT_DESC_NUM);
    if (version !== INFLIGHT_VERSION || entries !== this.entries) {
      throw this.bad(`version ${version}, ${entries} entries instead of ${this.entries}`);
    }
    this.lastBatchHead = region.readUInt16LE(INFLIGHT_SPLIT_LAST_BATCH_HEAD);
    this.finishBatch(region, used);
    return this.inFlight(region);
  }

  taken(head: number): void {
    if (this.flagged[head] === 1) return;
    const at = this.at(head);
    this.word.writeBigUInt64LE(this.counter);
    this.counter = BigInt.asUintN(64, this.counter + 1n);
    this.memory.write(at + INFLIGHT_DESC_SPLIT_COUNTER, this.word);
    this.setFlag(head, 1);
  }

  used(head: number): void {
    this.memory.storeU16(this.at(head) + INFLIGHT_DESC_SPLIT_NEXT, this.lastBatchHead);
    this.memory.storeU16(this.start + INFLIGHT_SPLIT_LAST_BATCH_HEAD, head);
    this.lastBatchHead = head;
    this.batch.push(head);
  }

  published(used: number): void {
    for (const head of this.batch) this.setFlag(head, 0);
    this.batch.length = 0;
    this.memory.storeU16(this.start + INFLIGHT_SPLIT_USED_IDX, used);
  }

  private initialize(used: number): void {
    this.memory.storeU16(this.start + INFLIGHT_SPLIT_DESC_NUM, this.entries);
    this.memory.storeU16(this.start + INFLIGHT_SPLIT_USED_IDX, used);
    this.memory.storeU16(this.start + INFLIGHT_SPLIT_VERSION, INFLIGHT_VERSION);
  }

  /** Buffers that were published when the process died, but were not noted as returned. */
  private finishBatch(region: Buffer, used: number): void {
    const count = (used - region.readUInt16LE(INFLIGHT_SPLIT_USED_IDX)) & 0xffff;
    if (count > this.size) throw this.bad(`a batch of ${count} in a ring of ${this.size}`);
    let head = this.lastBatchHead;
    for (let done = 0; done < count; done++) {
      if (head >= this.size) throw this.bad(`descriptor ${head} in a ring of ${this.size}`);
      const at = entryOffset(head);
      region.writeUInt8(0, at + INFLIGHT_DESC_SPLIT_INFLIGHT);
      this.setFlag(head, 0);
      head = region.readUInt16LE(at + INFLIGHT_DESC_SPLIT_NEXT);
    }
    this.memory.storeU16(this.start + INFLIGHT_SPLIT_USED_IDX, used);
  }

  private inFlight(region: Buffer): number[] {
    const found: { head: number; counter: bigint }[] = [];
    for (let head = 0; head < this.entries; head++) {
      const at = entryOffset(head);
      if (region.readUInt8(at + INFLIGHT_DESC_SPLIT_INFLIGHT) === 0) continue;
      if (head >= this.size) throw this.bad(`descriptor ${head} in a ring of ${this.size}`);
      found.push({ head, counter: region.readBigUInt64LE(at + INFLIGHT_DESC_SPLIT_COUNTER) });
    }
    found.sort((a, b) => (a.counter < b.counter ? -1 : 1));
    this.counter = BigInt.asUintN(64, (found.at(-1)?.counter ?? -1n) + 1n);
    for (const { head } of found) this.flagged[head] = 1;
    return found.map(({ head }) => head);
  }

  private setFlag(head: number, value: 0 | 1): void {
    this.byte.writeUInt8(value);
    this.memory.write(this.at(head) + INFLIGHT_DESC_SPLIT_INFLIGHT, this.byte);
    this.flagged[head] = value;
  }

  private at(head: number): number {
    return this.start + entryOffset(head);
  }

  private bad(detail: string): VvuError {
    return invalid('INFLIGHT_STATE', `in-flight region of ring ${this.index}: ${detail}`);
  }
}

/** Where a descriptor's state lies in the region. */
function entryOffset(head: number): number {
  return INFLIGHT_SPLIT_DESC + head * INFLIGHT_DESC_SPLIT_SIZE;
}
