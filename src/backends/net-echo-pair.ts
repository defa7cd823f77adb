import type { BackendQueue } from '../guest/backend-device.js';
import { writeChain, type Chain } from '../virtio/split-queue.js';

export interface EchoCounters {
  /** Packets sent back. */
  packets: number;
  /** Their bytes, without headers. */
  bytes: number;
  /**
   * Packets that could not be sent back: too short for a header, too long for any buffer, or sent
   * while the ring was disabled. Never for want of a buffer: then the packet waits.
   */
  drops: number;
  /** Times that a packet had to wait for a receive buffer. */
  waits: number;
}

/** Packets per `poll`. */
const BATCH = 32;
/** Offset of le16 num_buffers in the header (virtio 1.3 §5.1.6). */
const NUM_BUFFERS = 10;
/** Largest packet: 64 KiB of a GSO packet and the headers around it. */
const MAX_PACKET = 65_562 + 12;

const NO_SHORTAGE = -1;

/** One transmitq of the frontend and the receiveq beside it. */
export class EchoPair {
  readonly counters: EchoCounters = { packets: 0, bytes: 0, drops: 0, waits: 0 };
  private receive: BackendQueue | undefined;
  private transmit: BackendQueue | undefined;
  private headerBytes = 12;
  private mergeable = false;
  /** The packet under way: one, so that packets stay in order. */
  private readonly packet = Buffer.alloc(MAX_PACKET);
  private whole = this.packet.subarray(0, 0);
  private readonly buffers: Chain[] = [];
  /** Receive buffers that were too few for the packet that waits, or NO_SHORTAGE. */
  private shortage = NO_SHORTAGE;

  configure(headerBytes: number, mergeable: boolean): void {
    this.headerBytes = headerBytes;
    this.mergeable = mergeable;
  }

  attach(queue: BackendQueue, receive: boolean): void {
    queue.ring.disableKicks();
    if (receive) this.receive = queue;
    else this.transmit = queue;
  }

  detach(queue: BackendQueue): void {
    if (this.receive === queue) this.receive = undefined;
    if (this.transmit === queue) this.transmit = undefined;
    this.shortage = NO_SHORTAGE;
  }

  /** @returns packets moved or dropped */
  poll(): number {
    const { transmit, receive } = this;
    if (transmit === undefined || transmit.failed) return 0;
    if (!transmit.enabled) return this.serve(transmit, () => this.discard());
    if (!usable(receive)) return 0;
    return this.serve(transmit, (chain) => this.echo(transmit, receive, chain), receive);
  }

  /**
   * Handles a batch of transmitted packets; `handle` returns false for one that has to wait.
   * A ring that turns out to be broken is given up, with what was not published.
   */
  private serve(
    transmit: BackendQueue,
    handle: (chain: Chain) => boolean,
    receive?: BackendQueue,
  ): number {
    let count = 0;
    try {
      if (receive !== undefined && this.stillWaiting(receive)) return 0;
      while (count < BATCH) {
        const chain = transmit.ring.pop();
        if (chain === undefined) break;
        if (!handle(chain)) {
          transmit.ring.unpop();
          break;
        }
        transmit.ring.push(chain, 0);
        count++;
      }
      if (count > 0) {
        receive?.flush();
        transmit.flush();
      }
    } catch (error) {
      transmit.fail(error);
      receive?.fail(error);
    }
    return count;
  }

  private discard(): boolean {
    this.counters.drops++;
    return true;
  }

  private echo(transmit: BackendQueue, receive: BackendQueue, chain: Chain): boolean {
    const length = chain.readableLength;
    if (length <= this.headerBytes || length > MAX_PACKET) return this.discard();
    const room = this.collect(receive, length);
    if (room < length) {
      const { buffers } = this;
      receive.ring.unpop(buffers.length);
      // Without mergeable buffers a packet fits in one or in none; with them, in a whole ring.
      const all = this.mergeable ? receive.ring.size : 1;
      if (buffers.length >= all) return this.discard();
      this.shortage = buffers.length;
      this.counters.waits++;
      return false;
    }
    this.load(transmit, chain);
    this.store(receive, length);
    return true;
  }

  /** Whether there are no more receive buffers than when they were too few. */
  private stillWaiting(receive: BackendQueue): boolean {
    if (this.shortage !== NO_SHORTAGE && receive.ring.available() <= this.shortage) return true;
    this.shortage = NO_SHORTAGE;
    return false;
  }

  enableKicks(): boolean {
    const { transmit, receive } = this;
    if (transmit === undefined || transmit.failed) return false;
    try {
      // While a packet waits for a receive buffer, only such a buffer is news.
      const queue = this.shortage !== NO_SHORTAGE && usable(receive) ? receive : transmit;
      return queue.ring.enableKicks();
    } catch (error) {
      transmit.fail(error);
      return false;
    }
  }

  disableKicks(): void {
    for (const queue of [this.transmit, this.receive]) {
      if (queue === undefined || queue.failed) continue;
      try {
        queue.ring.disableKicks();
      } catch (error) {
        queue.fail(error);
      }
    }
  }

  /** Takes receive buffers until they hold `length` bytes. @returns the bytes that they hold */
  private collect(receive: BackendQueue, length: number): number {
    const { buffers } = this;
    buffers.length = 0;
    let room = 0;
    while (room < length && (this.mergeable || buffers.length === 0)) {
      const chain = receive.ring.pop();
      if (chain === undefined) break;
      buffers.push(chain);
      room += chain.writableLength;
    }
    return room;
  }

  /** Copies a packet and gives it a fresh header. */
  private load(transmit: BackendQueue, chain: Chain): void {
    let at = 0;
    for (const { iova, length } of chain.readable) {
      transmit.memory.readInto(iova, this.part(at, at + length));
      at += length;
    }
    // No offload was offered, so no flag of the transmit header has a meaning for a receiver.
    this.packet.fill(0, 0, this.headerBytes);
  }

  /** Part of `packet`; whole packets of one size, the usual case, share one view. */
  private part(from: number, to: number): Buffer {
    if (from !== 0) return this.packet.subarray(from, to);
    if (this.whole.length !== to) this.whole = this.packet.subarray(0, to);
    return this.whole;
  }

  private store(receive: BackendQueue, length: number): void {
    if (this.headerBytes > NUM_BUFFERS) {
      this.packet.writeUInt16LE(this.buffers.length, NUM_BUFFERS);
    }
    let done = 0;
    for (const chain of this.buffers) {
      const count = Math.min(chain.writableLength, length - done);
      writeChain(receive.memory, chain, this.part(done, done + count));
      receive.ring.push(chain, count);
      done += count;
    }
    this.counters.packets++;
    this.counters.bytes += length - this.headerBytes;
  }
}

function usable(queue: BackendQueue | undefined): queue is BackendQueue {
  return queue !== undefined && queue.enabled && !queue.failed;
}
