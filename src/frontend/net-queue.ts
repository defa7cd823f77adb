/** One queue pair of the built-in frontend: numbered packets out, checked packets in. */
import type { GuestMemory, Iova, QueueConfig } from '../virtio/ports.js';
import { DriverQueue, placeQueue, queueBytes } from '../virtio/split-queue-driver.js';
import type { FrontendRam } from './ram.js';

const PAGE = 4096;
/** As DPDK and Linux size theirs: a full Ethernet frame and the header. */
const BUFFER_BYTES = 2048;
/** struct virtio_net_hdr with num_buffers (virtio 1.3 §5.1.6). */
const NET_HEADER_BYTES = 12;
const NUM_BUFFERS = 10;
/** Two addresses and an EtherType for local experiments (IEEE 802, 88-B5). */
const ETHERNET_BYTES = 14;
const ETHERTYPE = 0x88b5;
const QUEUE_AT = NET_HEADER_BYTES + ETHERNET_BYTES;
const SEQUENCE_AT = QUEUE_AT + 4;
const PATTERN_AT = SEQUENCE_AT + 6;

/** Shortest and longest Ethernet frame without its checksum. */
export const MIN_PACKET = 60;
export const MAX_PACKET = 1514;

export interface NetCounters {
  sent: number;
  received: number;
  /** Bytes received, without the virtio-net header. */
  bytes: number;
  /** Received packets that are not the one that was expected next. */
  reordered: number;
  /** Received packets that are not byte for byte what was sent. */
  corrupt: number;
}

/** RAM that a pair takes. */
export function pairBytes(ringSize: number): number {
  const rings = 2 * Math.ceil(queueBytes(ringSize) / PAGE) * PAGE;
  return rings + 2 * ringSize * BUFFER_BYTES + PAGE;
}

interface Ring {
  readonly config: QueueConfig;
  readonly queue: DriverQueue<number>;
  readonly buffers: Iova;
}

/** Queue indices are 2 * pair (receive) and 2 * pair + 1 (transmit), virtio 1.3 §5.1.2. */
export class NetQueuePair {
  readonly counters: NetCounters = { sent: 0, received: 0, bytes: 0, reordered: 0, corrupt: 0 };
  readonly receive: Ring;
  readonly transmit: Ring;
  private readonly memory: GuestMemory;
  private readonly idle: number[] = [];
  private readonly packet = Buffer.alloc(BUFFER_BYTES);
  private readonly expected = Buffer.alloc(BUFFER_BYTES);
  private readonly arrived = Buffer.alloc(BUFFER_BYTES);
  private size = MIN_PACKET;

  constructor(
    readonly pair: number,
    ram: FrontendRam,
    private readonly ringSize: number,
    features: bigint,
    private readonly kick: (vring: number) => void,
  ) {
    this.memory = ram.memory;
    this.receive = this.createRing(2 * pair, ram, features);
    this.transmit = this.createRing(2 * pair + 1, ram, features);
    for (let buffer = ringSize - 1; buffer >= 0; buffer--) this.idle.push(buffer);
    this.receive.queue.disableInterrupts();
    this.transmit.queue.disableInterrupts();
    for (const bytes of [this.packet, this.expected]) {
      // Locally administered addresses of the pair.
      bytes.writeUIntBE(0x0200_0000_0000 + pair, NET_HEADER_BYTES, 6);
      bytes.writeUIntBE(0x0200_0000_0100 + pair, NET_HEADER_BYTES + 6, 6);
      bytes.writeUInt16BE(ETHERTYPE, NET_HEADER_BYTES + 12);
    }
    this.expected.writeUInt16LE(1, NUM_BUFFERS);
  }

  /** Bytes of the packets to come, without the virtio-net header. */
  set packetSize(bytes: number) {
    this.size = Math.min(MAX_PACKET, Math.max(MIN_PACKET, bytes));
  }

  /** Packets that were sent and are not back. */
  get outstanding(): number {
    return this.counters.sent - this.counters.received;
  }

  /** Gives all receive buffers to the backend. */
  fill(): void {
    for (let buffer = 0; buffer < this.ringSize; buffer++) this.give(buffer);
    if (this.receive.queue.publish()) this.kick(this.receive.config.index);
  }

  /** Sends up to `count` packets, as many as there are buffers. @returns how many */
  send(count: number): number {
    this.reclaim();
    let sent = 0;
    while (sent < count) {
      const buffer = this.idle.pop();
      if (buffer === undefined) break;
      const length = this.compose(this.packet, this.counters.sent);
      const iova = this.transmit.buffers + buffer * BUFFER_BYTES;
      this.memory.write(iova, this.packet.subarray(0, length));
      this.transmit.queue.add([{ iova, length }], [], buffer);
      this.counters.sent++;
      sent++;
    }
    if (sent > 0 && this.transmit.queue.publish()) this.kick(this.transmit.config.index);
    return sent;
  }

  /**
   * Takes and checks up to `limit` received packets, and gives their buffers back.
   * @throws VvuError of scope `device` when the backend broke a ring
   */
  collect(limit: number): number {
    let count = 0;
    while (count < limit) {
      const used = this.receive.queue.poll();
      if (used === undefined) break;
      this.check(used.token, used.written);
      this.give(used.token);
      count++;
    }
    if (count > 0 && this.receive.queue.publish()) this.kick(this.receive.config.index);
    return count;
  }

  private createRing(index: number, ram: FrontendRam, features: bigint): Ring {
    const base = ram.allocate(queueBytes(this.ringSize), PAGE);
    const config = placeQueue(index, this.ringSize, base);
    return {
      config,
      queue: new DriverQueue<number>(ram.memory, config, features),
      buffers: ram.allocate(this.ringSize * BUFFER_BYTES, 64),
    };
  }

  private give(buffer: number): void {
    const iova = this.receive.buffers + buffer * BUFFER_BYTES;
    this.receive.queue.add([], [{ iova, length: BUFFER_BYTES }], buffer);
  }

  private reclaim(): void {
    const { queue } = this.transmit;
    for (let used = queue.poll(); used !== undefined; used = queue.poll()) {
      this.idle.push(used.token);
    }
  }

  /** Writes packet number `sequence` behind the header. @returns its length with the header */
  private compose(bytes: Buffer, sequence: number): number {
    const length = NET_HEADER_BYTES + this.size;
    bytes.writeUInt32LE(this.pair, QUEUE_AT);
    bytes.writeUIntLE(sequence, SEQUENCE_AT, 6);
    bytes.fill(sequence & 0xff, PATTERN_AT, length);
    return length;
  }

  private check(buffer: number, written: number): void {
    const { counters } = this;
    const arrived = this.arrived.subarray(0, written);
    this.memory.readInto(this.receive.buffers + buffer * BUFFER_BYTES, arrived);
    const sequence = written >= PATTERN_AT ? arrived.readUIntLE(SEQUENCE_AT, 6) : -1;
    const length = this.compose(this.expected, counters.received);
    if (sequence !== counters.received) counters.reordered++;
    else if (!arrived.equals(this.expected.subarray(0, length))) counters.corrupt++;
    counters.received++;
    counters.bytes += Math.max(0, written - NET_HEADER_BYTES);
  }
}
