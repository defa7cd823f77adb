import test from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import type { BackendQueue } from '../../src/guest/backend-device.js';
import { SplitQueue } from '../../src/virtio/split-queue.js';
import { DriverQueue, placeQueue } from '../../src/virtio/split-queue-driver.js';
import { FakeMemory } from '../virtio/fake-memory.js';

const F_VERSION_1 = 1n << 32n;
const F_MRG_RXBUF = 1n << 15n;
const SIZE = 8;

class FakeQueue implements BackendQueue {
  enabled = true;
  failed = false;
  error: unknown;
  notified = 0;
  readonly ring: SplitQueue;

  constructor(
    readonly index: number,
    readonly memory: FakeMemory,
    base: number,
  ) {
    this.ring = new SplitQueue(memory, placeQueue(index, SIZE, base), 0n);
  }

  flush(): void {
    if (this.ring.flush()) this.notified++;
  }

  fail(error: unknown): void {
    this.failed = true;
    this.error = error;
  }
}

/** A frontend with one queue pair; packets and buffers lie from 0x4000 on. */
class Bench {
  readonly memory = new FakeMemory(0x40000);
  readonly echo = new NetEcho(1);
  readonly rx = new DriverQueue<number>(this.memory, placeQueue(0, SIZE, 0), 0n);
  readonly tx = new DriverQueue<number>(this.memory, placeQueue(1, SIZE, 0x1000), 0n);
  readonly receive = new FakeQueue(0, this.memory, 0);
  readonly transmit = new FakeQueue(1, this.memory, 0x1000);
  private next = 0x4000;

  constructor(features = F_VERSION_1 | F_MRG_RXBUF) {
    this.echo.featuresAccepted(features);
    this.echo.queueStarted(this.receive);
    this.echo.queueStarted(this.transmit);
  }

  /** Offers receive buffers of these sizes; the token is the address. */
  offer(...sizes: number[]): void {
    for (const length of sizes) {
      this.rx.add([], [{ iova: this.next, length }], this.next);
      this.next += length;
    }
    this.rx.publish();
  }

  /** Sends header and payload, in pieces of these sizes or in one. */
  send(payload: string, header = 12, ...pieces: number[]): void {
    const bytes = Buffer.concat([Buffer.alloc(header, 0xff), Buffer.from(payload)]);
    this.memory.write(this.next, bytes);
    const segments = [];
    let at = this.next;
    for (const length of pieces.length > 0 ? pieces : [bytes.length]) {
      segments.push({ iova: at, length });
      at += length;
    }
    this.tx.add(segments, [], 0);
    this.tx.publish();
    this.next = at;
  }

  /** Used receive buffers, as hex. */
  received(): string[] {
    const buffers: string[] = [];
    for (let used = this.rx.poll(); used !== undefined; used = this.rx.poll()) {
      buffers.push(this.memory.read(used.token, used.written).toString('hex'));
    }
    return buffers;
  }

  sentBack(): number {
    let count = 0;
    while (this.tx.poll() !== undefined) count++;
    return count;
  }
}

/** An empty header with num_buffers (le16 at offset 10). */
const header = (buffers: number): string => '00'.repeat(10) + `0${buffers}00`;
const hex = (text: string): string => Buffer.from(text).toString('hex');

test('a packet comes back with a fresh header', (t) => {
  const bench = new Bench();
  bench.offer(100, 100);
  bench.send('hello');
  bench.send('second', 12, 5, 7, 6);
  t.is(bench.echo.poll(), 2);
  t.deepEqual(bench.received(), [header(1) + hex('hello'), header(1) + hex('second')]);
  t.is(bench.sentBack(), 2);
  t.is(bench.receive.notified, 1, 'one notification per batch');
  t.is(bench.transmit.notified, 1);
  t.deepEqual(bench.echo.counters, [{ packets: 2, bytes: 11, drops: 0, waits: 0 }]);
  t.is(bench.echo.poll(), 0);
});

test('a long packet takes several mergeable buffers', (t) => {
  const bench = new Bench();
  bench.offer(20, 5, 100);
  bench.send('0123456789abcdef');
  t.is(bench.echo.poll(), 1);
  t.deepEqual(bench.received(), [header(3) + hex('01234567'), hex('89abc'), hex('def')]);
});

test('without mergeable buffers a packet fits or is dropped', (t) => {
  const bench = new Bench(F_VERSION_1);
  bench.offer(20, 100);
  bench.send('0123456789abcdef');
  bench.send('fits');
  t.is(bench.echo.poll(), 2);
  t.deepEqual(bench.received(), [header(1) + hex('fits')], 'the first buffer was put back');
  t.is(bench.sentBack(), 2);
  t.is(bench.echo.counters[0]?.drops, 1);
});

test('without either feature the header has 10 bytes', (t) => {
  const bench = new Bench(0n);
  bench.offer(100);
  bench.send('legacy', 10);
  bench.echo.poll();
  t.deepEqual(bench.received(), ['00'.repeat(10) + hex('legacy')]);
});

test('a packet waits for a buffer, keeps its place, and is not lost', (t) => {
  const bench = new Bench();
  bench.send('first');
  bench.send('second');
  t.is(bench.echo.poll(), 0);
  t.is(bench.echo.poll(), 0);
  t.is(bench.sentBack(), 0);
  t.false(bench.echo.enableKicks(), 'only a receive buffer is news');
  bench.offer(100);
  t.true(bench.echo.enableKicks());
  t.is(bench.echo.poll(), 1);
  t.deepEqual(bench.received(), [header(1) + hex('first')]);
  bench.offer(14);
  t.is(bench.echo.poll(), 0, 'too short alone, and more may come');
  bench.offer(100);
  t.is(bench.echo.poll(), 1);
  t.deepEqual(bench.received(), [header(2) + hex('se'), hex('cond')]);
  t.deepEqual(bench.echo.counters, [{ packets: 2, bytes: 11, drops: 0, waits: 3 }]);
});

test('a packet that no ring of buffers can hold is dropped', (t) => {
  const bench = new Bench();
  bench.offer(...new Array<number>(SIZE).fill(2));
  bench.send('0123456789');
  t.is(bench.echo.poll(), 1);
  t.is(bench.echo.counters[0]?.drops, 1);
  t.deepEqual(bench.received(), []);
});

test('what is no packet is dropped', (t) => {
  const bench = new Bench();
  bench.offer(100);
  bench.send('');
  bench.send('x', 3);
  t.is(bench.echo.poll(), 2);
  t.is(bench.sentBack(), 2);
  t.is(bench.echo.counters[0]?.drops, 2);
  t.deepEqual(bench.received(), []);
});

test('a disabled transmitq is discarded, a disabled receiveq holds packets back', (t) => {
  const bench = new Bench();
  bench.offer(100, 100);
  bench.transmit.enabled = false;
  bench.send('gone');
  t.is(bench.echo.poll(), 1);
  t.deepEqual(bench.received(), []);
  t.is(bench.sentBack(), 1);
  bench.transmit.enabled = true;
  bench.receive.enabled = false;
  bench.send('held');
  t.is(bench.echo.poll(), 0);
  bench.receive.enabled = true;
  t.is(bench.echo.poll(), 1);
  t.deepEqual(bench.received(), [header(1) + hex('held')]);
});

test('poll does a bounded batch', (t) => {
  const bench = new Bench();
  const big = new NetEcho(1);
  const memory = new FakeMemory(0x100000);
  const ring = (index: number, base: number): DriverQueue<number> =>
    new DriverQueue<number>(memory, placeQueue(index, 128, base), 0n);
  const rx = ring(0, 0);
  const tx = ring(1, 0x2000);
  for (let i = 0; i < 100; i++) {
    rx.add([], [{ iova: 0x10000 + i * 64, length: 64 }], i);
    tx.add([{ iova: 0x20000 + i * 64, length: 20 }], [], i);
  }
  rx.publish();
  tx.publish();
  big.featuresAccepted(F_VERSION_1);
  for (const [index, base] of [
    [0, 0],
    [1, 0x2000],
  ] as const) {
    const queue = new FakeQueue(index, bench.memory, 0);
    const full = new SplitQueue(memory, placeQueue(index, 128, base), 0n);
    big.queueStarted(Object.assign(queue, { ring: full, memory }));
  }
  t.deepEqual(
    [1, 2, 3, 4, 5].map(() => big.poll()),
    [32, 32, 32, 4, 0],
  );
});

test('a broken ring is given up, and the echo goes on', (t) => {
  const bench = new Bench();
  bench.offer(100);
  bench.tx.add([{ iova: 0x3fff0, length: 100 }], [], 0);
  bench.tx.publish();
  t.notThrows(() => bench.echo.poll());
  t.true(bench.transmit.failed);
  t.is((bench.transmit.error as { code?: string }).code, 'DMA_UNMAPPED');
  t.is(bench.echo.poll(), 0);
  t.false(bench.echo.enableKicks());
  t.notThrows(() => bench.echo.disableKicks());
});

test('stopping a ring loses no packet that waits', (t) => {
  const bench = new Bench();
  bench.send('waits');
  bench.echo.poll();
  t.is(bench.transmit.ring.position.available, 0);
  bench.echo.queueStopped(bench.transmit);
  bench.echo.queueStopped(bench.receive);
  t.is(bench.transmit.ring.position.available, 0);
  t.is(bench.echo.poll(), 0);
});

test('queue pairs do not mix', (t) => {
  t.is(new NetEcho(4).queueCount, 8);
  t.is(new NetEcho(4).queueNum, 4);
  const bench = new Bench();
  const echo = new NetEcho(2);
  echo.featuresAccepted(F_VERSION_1);
  bench.offer(100);
  bench.send('only the first');
  echo.queueStarted(bench.transmit);
  t.is(echo.poll(), 0, 'no receiveq');
  echo.queueStarted(bench.receive);
  t.is(echo.poll(), 1);
  t.deepEqual(
    echo.counters.map(({ packets }) => packets),
    [1, 0],
  );
});
