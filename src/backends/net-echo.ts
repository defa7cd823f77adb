/**
 * A network device that sends every packet back on the queue pair that it came from. The reference
 * backend: small, and with the habits of a good one (batches, backpressure, few notifications).
 */
import type { BackendDevice, BackendQueue } from '../guest/backend-device.js';
import {
  VHOST_USER_PROTOCOL_F_NET_MTU,
  VHOST_USER_PROTOCOL_F_RARP,
  featureBits,
} from '../vhost-user/index.js';
import { VIRTIO_F_VERSION_1 } from '../virtio/constants.js';
import { EchoPair, type EchoCounters } from './net-echo-pair.js';

export type { EchoCounters } from './net-echo-pair.js';

/** Feature bits of virtio-net (virtio 1.3 §5.1.3). */
const VIRTIO_NET_F_MRG_RXBUF = 15;
const VIRTIO_NET_F_STATUS = 16;
const VIRTIO_NET_F_CTRL_VQ = 17;
const VIRTIO_NET_F_CTRL_RX = 18;
const VIRTIO_NET_F_MQ = 22;

/** struct virtio_net_hdr with and without num_buffers (§5.1.6). */
const HEADER_BYTES = 12;
const LEGACY_HEADER_BYTES = 10;

/** 2 vrings per pair: receiveq1, transmitq1, receiveq2, … (§5.1.2). */
const VRINGS_PER_PAIR = 2;

export class NetEcho implements BackendDevice {
  /** CTRL_VQ, CTRL_RX and MQ are served by the frontend, which needs them offered. */
  readonly features = featureBits(
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_STATUS,
    VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_CTRL_RX,
    VIRTIO_NET_F_MQ,
  );
  readonly protocolFeatures = featureBits(
    VHOST_USER_PROTOCOL_F_NET_MTU,
    VHOST_USER_PROTOCOL_F_RARP,
  );
  readonly inOrder = true;
  readonly queueCount: number;
  readonly queueNum: number;
  private readonly pairs: readonly EchoPair[];

  /** @param queuePairs 1 or more; the driver's device must have twice as many vrings */
  constructor(queuePairs = 1) {
    this.queueNum = queuePairs;
    this.queueCount = queuePairs * VRINGS_PER_PAIR;
    this.pairs = Array.from({ length: queuePairs }, () => new EchoPair());
  }

  /** Totals since the start, one per queue pair. */
  get counters(): readonly Readonly<EchoCounters>[] {
    return this.pairs.map(({ counters }) => counters);
  }

  featuresAccepted(features: bigint): void {
    const mergeable = (features & featureBits(VIRTIO_NET_F_MRG_RXBUF)) !== 0n;
    const modern = (features & VIRTIO_F_VERSION_1) !== 0n;
    const headerBytes = mergeable || modern ? HEADER_BYTES : LEGACY_HEADER_BYTES;
    for (const pair of this.pairs) pair.configure(headerBytes, mergeable);
  }

  queueStarted(queue: BackendQueue): void {
    this.pairOf(queue)?.attach(queue, isReceive(queue));
  }

  queueStopped(queue: BackendQueue): void {
    this.pairOf(queue)?.detach(queue);
  }

  /** Everything is accepted: packets are as large as the frontend makes them. */
  setMtu(): void {
    return;
  }

  /** There is no network behind this device that could learn where the frontend went. */
  sendRarp(): void {
    return;
  }

  /**
   * Moves at most one batch per queue pair.
   * @returns packets that were moved or dropped: 0 when there was nothing to do
   */
  poll(): number {
    let count = 0;
    for (const pair of this.pairs) count += pair.poll();
    return count;
  }

  /**
   * Asks for kicks on all rings.
   * @returns true when there is work that will not be kicked: poll on instead of sleeping
   */
  enableKicks(): boolean {
    let work = false;
    for (const pair of this.pairs) work = pair.enableKicks() || work;
    return work;
  }

  /** Back to polling. */
  disableKicks(): void {
    for (const pair of this.pairs) pair.disableKicks();
  }

  private pairOf(queue: BackendQueue): EchoPair | undefined {
    return this.pairs[Math.floor(queue.index / VRINGS_PER_PAIR)];
  }
}

function isReceive(queue: BackendQueue): boolean {
  return queue.index % VRINGS_PER_PAIR === 0;
}
