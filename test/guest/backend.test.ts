import test from 'ava';
import { VhostUserBackend } from '../../src/guest/backend.js';
import type { BackendDevice, BackendQueue } from '../../src/guest/backend-device.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { FakeDevice } from './fake-device.js';

/** A device model that only writes down what happens to it. */
class Recorder implements BackendDevice {
  readonly features = 1n << 15n;
  readonly queueCount = 4;
  readonly queueNum = 2;
  readonly inOrder = true;
  readonly protocolFeatures = 1n << 4n;
  readonly config = {
    read: (offset: number, length: number): Buffer => Buffer.alloc(length, offset),
    write: (offset: number, bytes: Buffer): void => {
      this.log.push(`config ${offset} ${bytes.toString('hex')}`);
    },
  };
  readonly log: string[] = [];
  readonly queues = new Map<number, BackendQueue>();
  accepted = 0n;

  featuresAccepted(features: bigint): void {
    this.accepted = features;
  }

  queueStarted(queue: BackendQueue): void {
    this.log.push(`start ${queue.index}`);
    this.queues.set(queue.index, queue);
  }

  queueStopped(queue: BackendQueue): void {
    this.log.push(`stop ${queue.index}`);
    this.queues.delete(queue.index);
  }

  setMtu(mtu: number): void {
    this.log.push(`mtu ${mtu}`);
  }
}

const le = (bytes: number, ...values: (number | bigint)[]): string =>
  values
    .map((value) => {
      const buffer = Buffer.alloc(8);
      buffer.writeBigUInt64LE(BigInt(value));
      return buffer.toString('hex', 0, bytes);
    })
    .join('');
const u32 = (...values: number[]): string => le(4, ...values);
const u64 = (...values: (number | bigint)[]): string => le(8, ...values);

class Peer {
  readonly device = new FakeDevice();
  readonly model = new Recorder();
  readonly driver: VvuDriver;
  readonly backend: VhostUserBackend;

  constructor() {
    this.driver = new VvuDriver(this.device, { statusIntervalMs: 0 });
    this.backend = new VhostUserBackend(this.driver, this.model);
    this.driver.start();
    this.driver.poll();
    this.device.connect();
    this.driver.poll();
  }

  /** Sends a message written in hex; flags 1 is version 1, 9 with need_reply. */
  send(request: number, payload = '', flags = 1): string[] {
    const frame = u32(request, flags, payload.length / 2) + payload;
    this.device.toDriver(Buffer.from(frame, 'hex'));
    this.driver.poll();
    return this.device.fromDriver().map((bytes) => bytes.toString('hex'));
  }

  /** With REPLY_ACK: the acknowledged value. */
  ack(request: number, payload = ''): number {
    const replies = this.send(request, payload, 9);
    const prefix = u32(request, 5, 8);
    const reply = replies[0] ?? '';
    if (replies.length !== 1 || !reply.startsWith(prefix))
      throw new Error(`replies: ${replies.join()}`);
    return Buffer.from(reply.slice(24), 'hex').readUInt32LE();
  }

  negotiate(): void {
    this.send(2, u64((1n << 32n) | (1n << 30n) | (1n << 15n)));
    this.send(16, u64((1n << 0n) | (1n << 3n) | (1n << 15n) | (1n << 16n)));
  }

  /** Guest memory [0, 0x10000) at window offset 0, user address 0x7f0000000000. */
  memory(): void {
    this.send(5, u32(1, 0) + u64(0, 0x10000, 0x7f0000000000, 0));
  }

  /** The frontend is gone, and the next one there. */
  reconnect(): void {
    this.device.disconnect();
    this.driver.poll();
    this.device.connect();
    this.driver.poll();
  }

  ring(index: number, position = 0): void {
    const base = 0x7f0000000000 + index * 0x1000;
    this.send(8, u32(index, 4));
    this.send(10, u32(index, position));
    this.send(9, u32(index, 0) + u64(base, base + 0x200, base + 0x100, 0));
    this.send(13, u64(index));
    this.send(12, u64(index));
    this.send(18, u32(index, 1));
  }
}

test('features are offered with those of rings and protocol', (t) => {
  const peer = new Peer();
  const features =
    (1n << 15n) | (1n << 26n) | (1n << 28n) | (1n << 29n) | (1n << 30n) | (1n << 32n);
  t.deepEqual(peer.send(1), [u32(1, 5, 8) + u64(features)]);
  // MQ 0, LOG_SHMFD 1, REPLY_ACK 3, NET_MTU 4, BACKEND_REQ 5, CONFIG 9, RESET_DEVICE 13, CONFIGURE_MEM_SLOTS 15, STATUS 16.
  const protocol = 0x1_a23bn;
  t.deepEqual(peer.send(15), [u32(15, 5, 8) + u64(protocol)]);
  t.deepEqual(peer.send(17), [u32(17, 5, 8) + u64(2)]);
  t.deepEqual(peer.send(36), [u32(36, 5, 8) + u64(256)]);
});

test('a ring starts when it has memory, size, addresses and a kick', (t) => {
  const peer = new Peer();
  peer.negotiate();
  peer.memory();
  peer.ring(1);
  t.deepEqual(peer.model.log, ['start 1']);
  const queue = peer.model.queues.get(1);
  t.true(queue?.enabled);
  t.is(peer.model.accepted, (1n << 32n) | (1n << 30n) | (1n << 15n));
  // GET_VRING_BASE stops it and tells the next index.
  t.deepEqual(peer.send(11, u32(1, 0)), [u32(11, 5, 8) + u32(1, 0)]);
  t.deepEqual(peer.model.log, ['start 1', 'stop 1']);
  // Without a new kick it does not start again.
  peer.send(9, u32(1, 0) + u64(0x7f0000001000, 0x7f0000001200, 0x7f0000001100, 0));
  t.is(peer.model.log.length, 2);
  peer.send(12, u64(1 | 0x100));
  t.deepEqual(peer.model.log, ['start 1', 'stop 1', 'start 1']);
});

test('buffers flow through a ring of the frontend', (t) => {
  const peer = new Peer();
  peer.negotiate();
  peer.memory();
  const { bytes } = peer.device.window;
  // Used index 7 of an earlier run, written to used.idx at 0x202 before the ring starts.
  bytes.writeUInt16LE(7, 0x202);
  peer.ring(0);
  bytes.writeBigUInt64LE(0x5000n, 0);
  bytes.writeUInt32LE(5, 8);
  bytes.write('hello', 0x5000);
  bytes.writeUInt16LE(0, 0x104 + 2 * 3);
  bytes.writeUInt16LE(8, 0x102);
  const queue = peer.model.queues.get(0)!;
  const chain = queue.ring.pop()!;
  t.is(queue.memory.read(chain.readable[0]!.iova, 5).toString(), 'hello');
  queue.ring.push(chain, 0);
  queue.flush();
  t.is(bytes.readUInt16LE(0x202), 8);
  t.deepEqual(peer.device.rung, [0]);
  t.deepEqual(peer.send(11, u32(0, 0)), [u32(11, 5, 8) + u32(0, 8)]);
});

test('without a call eventfd the doorbell stays silent', (t) => {
  const peer = new Peer();
  peer.negotiate();
  peer.memory();
  peer.ring(0);
  peer.send(13, u64(0x100));
  const { bytes } = peer.device.window;
  bytes.writeBigUInt64LE(0x5000n, 0);
  bytes.writeUInt32LE(5, 8);
  bytes.writeUInt16LE(1, 0x102);
  const queue = peer.model.queues.get(0)!;
  queue.ring.push(queue.ring.pop()!, 0);
  queue.flush();
  t.deepEqual(peer.device.rung, []);
});

test('bad requests are refused with an error, and change nothing', (t) => {
  const peer = new Peer();
  peer.negotiate();
  peer.memory();
  peer.ring(0);
  const log = [...peer.model.log];
  const bad: [number, string][] = [
    [2, u64(1n << 40n)], // a feature that was not offered
    [16, u64(1n << 2n)], // RARP was not offered
    [5, u32(0, 0)], // no regions
    [5, u32(2, 0) + u64(0, 0x10000, 0, 0)], // fewer regions than it says
    [5, u32(2, 0) + u64(0, 0x1000, 0, 0, 0, 0x1000, 0, 0)], // overlap
    [5, u32(1, 0) + u64(0, 1n << 40n, 0, 0)], // larger than the window
    [37, u64(0, 0x8000, 0x1000, 0, 0)], // ADD_MEM_REG over the first one
    [38, u64(0, 0x1000, 0x10000, 0, 0)], // REM_MEM_REG of an unknown one
    [8, u32(1, 3)], // not a power of two
    [8, u32(1, 0)],
    [8, u32(1, 0x10000)],
    [8, u32(9, 4)], // no such vring
    [8, u32(0, 4)], // running
    [10, u32(1, 0x10000)],
    [10, u32(0, 0)], // running
    [9, u32(0, 0) + u64(0x7f0000002000, 0x7f0000002200, 0x7f0000002100, 0)], // running
    [9, u32(0xffffffff, 0) + u64(0, 0, 0, 0)],
    [12, u64(200)],
    [13, u64(200)],
    [14, u64(200)],
    [18, u32(4, 1)],
    [18, u32(0, 2)],
    [12, u64(1n << 32n)], // reserved bits
    [28, ''], // POSTCOPY_ADVISE was not offered
    [999, '00'], // no such request
  ];
  for (const [request, payload] of bad) {
    const replies = peer.send(request, payload, 9);
    if (request === 28) {
      // It has a reply of its own that cannot be given: the connection ends.
      t.deepEqual(replies, []);
      break;
    }
    t.deepEqual(replies, [u32(request, 5, 8) + u64(1)], `request ${request} ${payload}`);
    t.deepEqual(peer.model.log, log);
    t.deepEqual(peer.backend.running, [0]);
  }
});

test('without REPLY_ACK there are no acknowledgements', (t) => {
  const peer = new Peer();
  t.deepEqual(peer.send(8, u32(0, 3), 9), []);
  t.deepEqual(peer.send(8, u32(0, 4), 9), []);
  peer.negotiate();
  t.is(peer.ack(8, u32(0, 4)), 0);
  t.is(peer.ack(8, u32(0, 3)), 1);
});

test('addresses are checked as soon as they can be', (t) => {
  const peer = new Peer();
  peer.negotiate();
  peer.memory();
  t.is(peer.ack(8, u32(0, 4)), 0);
  const at = 0x7f0000000000;
  t.is(peer.ack(9, u32(0, 0) + u64(at + 0xfff0, at + 0x200, at + 0x100, 0)), 1);
  t.is(peer.ack(9, u32(0, 0) + u64(at, at + 0x201, at + 0x100, 0)), 1, 'used ring not aligned');
  t.is(peer.ack(9, u32(0, 0) + u64(at, at + 0x200, at + 0x101, 0)), 1, 'avail ring not aligned');
  t.is(peer.ack(12, u64(0)), 0);
  t.deepEqual(peer.backend.running, []);
  t.is(peer.ack(9, u32(0, 0) + u64(at, at + 0x200, at + 0x100, 0)), 0);
  t.deepEqual(peer.backend.running, [0]);
});

test('a request whose reply cannot be given drops the frontend', (t) => {
  for (const [request, payload] of [
    [11, u32(77, 0)], // GET_VRING_BASE of no vring
    [11, u32(0)], // too short
    [1, u64(0)], // GET_FEATURES with a payload
  ] as const) {
    const peer = new Peer();
    peer.negotiate();
    peer.memory();
    peer.ring(0);
    t.deepEqual(peer.send(request, payload), []);
    t.is(peer.device.linkStatus, 1);
    t.deepEqual(peer.model.log, ['start 0', 'stop 0']);
    peer.device.connect();
    peer.driver.poll();
    t.is(peer.send(1).length, 1, 'the next frontend is served');
  }
});

test('a message with a bad header drops the frontend', (t) => {
  for (const frame of ['01000000', u32(1, 2, 0), u32(1, 1, 8), u32(1, 0x11, 0)]) {
    const peer = new Peer();
    peer.device.toDriver(Buffer.from(frame, 'hex'));
    peer.driver.poll();
    t.is(peer.device.linkStatus, 1);
    t.deepEqual(peer.device.fromDriver(), []);
  }
});

test('rings stop when the frontend leaves, and nothing of it is left', (t) => {
  const peer = new Peer();
  peer.negotiate();
  peer.memory();
  peer.ring(0);
  peer.ring(1);
  peer.device.disconnect();
  peer.driver.poll();
  t.deepEqual(peer.model.log, ['start 0', 'start 1', 'stop 0', 'stop 1']);
  peer.device.connect();
  peer.driver.poll();
  peer.negotiate();
  peer.send(12, u64(0));
  t.deepEqual(peer.backend.running, []);
});

test('a new table moves nothing, or stops and starts the rings that it moves', (t) => {
  const peer = new Peer();
  peer.negotiate();
  peer.memory();
  peer.ring(0);
  const user = 0x7f0000000000;
  // The same guest addresses behind a gap in the window: the ring goes on.
  peer.send(5, u32(1, 0) + u64(0, 0x10000, user, 0x20000));
  t.deepEqual(peer.model.log, ['start 0']);
  // Gone, and back.
  t.is(peer.ack(5, u32(1, 0) + u64(0, 0x10000, user + 0x100000, 0)), 0);
  t.deepEqual(peer.model.log, ['start 0', 'stop 0']);
  peer.memory();
  t.deepEqual(peer.model.log, ['start 0', 'stop 0', 'start 0']);
});

test('memory slots: rings stop with their region', (t) => {
  const peer = new Peer();
  peer.negotiate();
  const region = u64(0, 0, 0x10000, 0x7f0000000000, 0);
  t.is(peer.ack(37, region), 0);
  peer.ring(0);
  t.is(peer.ack(38, region), 0);
  t.deepEqual(peer.model.log, ['start 0', 'stop 0']);
  t.is(peer.ack(37, region), 0);
  t.deepEqual(peer.model.log, ['start 0', 'stop 0', 'start 0']);
});

test('configuration space, status, MTU and resets', (t) => {
  const peer = new Peer();
  peer.negotiate();
  peer.memory();
  peer.ring(0);
  t.deepEqual(peer.send(24, u32(2, 4, 0) + '00000000'), [
    u32(24, 5, 16) + u32(2, 4, 0) + '02020202',
  ]);
  t.is(peer.ack(25, u32(1, 2, 0) + 'abcd'), 0);
  t.is(peer.ack(39, u64(15)), 0);
  t.deepEqual(peer.send(40), [u32(40, 5, 8) + u64(15)]);
  t.is(peer.ack(20, u64(1500)), 0);
  t.is(peer.ack(39, u64(0)), 0);
  t.deepEqual(peer.model.log, ['start 0', 'config 1 abcd', 'mtu 1500', 'stop 0']);
  peer.ring(0);
  t.is(peer.ack(34), 0);
  t.deepEqual(peer.model.log.slice(4), ['start 0', 'stop 0']);
});

for (const [what, orderly] of [
  ['after GET_VRING_BASE it brings the position back', true],
  ['of one that vanished it knows nothing, and the used ring tells', false],
] as const) {
  test(`a frontend that comes again goes on where the ring was: ${what}`, (t) => {
    const peer = new Peer();
    const start = (position: number): BackendQueue | undefined => {
      peer.negotiate();
      peer.memory();
      peer.ring(0, position);
      return peer.model.queues.get(0);
    };
    const first = start(0);
    const { bytes } = peer.device.window;
    bytes.writeBigUInt64LE(0x5000n, 0);
    bytes.writeUInt32LE(5, 8);
    bytes.writeUInt16LE(3, 0x102);
    for (let count = 0; count < 3; count++) {
      const chain = first?.ring.pop();
      if (chain) first?.ring.push(chain, 0);
    }
    first?.flush();
    let position = 0;
    if (orderly) {
      t.deepEqual(peer.send(11, u32(0, 0)), [u32(11, 5, 8) + u32(0, 3)]);
      position = 3;
    }
    peer.reconnect();
    const { ring } = start(position) ?? {};
    t.deepEqual(ring?.position, { available: 3, used: 3 });
    bytes.writeUInt16LE(4, 0x102);
    t.is(ring?.pop()?.head, 0);
    t.is(ring?.pop(), undefined, 'nothing is served twice');
  });
}

test('without protocol features rings are enabled at once', (t) => {
  const peer = new Peer();
  peer.send(2, u64(1n << 32n));
  peer.memory();
  const base = 0x7f0000000000;
  peer.send(8, u32(0, 4));
  peer.send(9, u32(0, 0) + u64(base, base + 0x200, base + 0x100, 0));
  peer.send(12, u64(0));
  t.true(peer.model.queues.get(0)?.enabled);
});

test('replies of the frontend to nothing are ignored', (t) => {
  const peer = new Peer();
  t.deepEqual(peer.send(1, u64(0), 5), []);
  t.is(peer.send(1).length, 1);
});
