import test from 'ava';
import { InflightArea } from '../../src/guest/inflight.js';
import { DriverQueue, placeQueue, queueBytes } from '../../src/virtio/split-queue-driver.js';
import { SplitQueue, type Chain } from '../../src/virtio/split-queue.js';
import { FakeMemory } from '../virtio/fake-memory.js';

const WINDOW = 0x4000;
const PLACE = 0x1000;
const QUEUE_SIZE = 8;
/** struct QueueRegionSplit of 8 descriptors: 16 bytes and 8 times 16, rounded up to 64. */
const REGION = 192;

class Died extends Error {}

/** Memory of which the backend can make only so many stores before it dies. */
class MortalMemory extends FakeMemory {
  constructor(
    size: number,
    private readonly life: { stores: number },
  ) {
    super(size);
  }

  override write(iova: number, bytes: Uint8Array): void {
    this.live();
    super.write(iova, bytes);
  }

  override storeU16(iova: number, value: number): void {
    this.live();
    super.storeU16(iova, value);
  }

  private live(): void {
    if (this.life.stores-- === 0) throw new Died();
  }
}

const description = (numQueues = 2, queueSize = QUEUE_SIZE, mmapSize = numQueues * REGION) => ({
  ...{ mmapSize: BigInt(mmapSize), mmapOffset: BigInt(PLACE) },
  ...{ numQueues, queueSize },
});

function setup() {
  const life = { stores: Infinity };
  const ring = new MortalMemory(queueBytes(QUEUE_SIZE) + 64, life);
  const window = new MortalMemory(WINDOW, life);
  const driver = new DriverQueue<string>(ring, placeQueue(1, QUEUE_SIZE, 0), 0n);
  const area = () => new InflightArea({ size: WINDOW, memory: window }, description());
  /** A backend as it starts after the one before it, whatever position the frontend knows. */
  const start = (position = 0) => {
    const used = ring.loadU16(driver.config.deviceArea + 2);
    const tracker = area().queue(1, QUEUE_SIZE);
    const resubmit = tracker.recover(used);
    const available = resubmit === undefined ? position : used + resubmit.length;
    const queue = new SplitQueue(ring, driver.config, 0n, {
      ...{ available, used, tracker },
      resubmit: resubmit ?? [],
    });
    return { queue, resubmit };
  };
  const add = (...tokens: string[]) => {
    for (const token of tokens) driver.add([], [{ iova: 0, length: 16 }], token);
    driver.publish();
  };
  const done = () => {
    const tokens: string[] = [];
    for (let used = driver.poll(); used; used = driver.poll()) tokens.push(used.token);
    return tokens;
  };
  const region = () => window.bytes.subarray(PLACE + REGION, PLACE + 2 * REGION);
  return { life, ring, window, driver, area, start, add, done, region };
}

const pop = (queue: SplitQueue): Chain => {
  const chain = queue.pop();
  if (!chain) throw new Error('nothing to pop');
  return chain;
};

test('the region is the structure of the specification', (t) => {
  const { start, add, region } = setup();
  const { queue, resubmit } = start();
  t.is(resubmit, undefined, 'a new region');
  // le64 features 0, le16 version 1, desc_num 8, last_batch_head 0, used_idx 0.
  t.is(region().toString('hex', 0, 16), '0000000000000000' + '0100' + '0800' + '0000' + '0000');
  add('a', 'b', 'c');
  const [a, b, c] = [pop(queue), pop(queue), pop(queue)];
  // Of descriptor i at 16 + 16 i: u8 inflight, 5 bytes, le16 next, le64 counter.
  const state = (index: number) => region().toString('hex', 16 + 16 * index, 32 + 16 * index);
  t.is(state(1), '01' + '0000000000' + '0000' + '0100000000000000');
  t.is(state(2), '01' + '0000000000' + '0000' + '0200000000000000');
  queue.push(c, 0);
  queue.push(a, 0);
  t.is(state(2), '01' + '0000000000' + '0000' + '0200000000000000', 'not published yet');
  t.is(state(0), '01' + '0000000000' + '0200' + '0000000000000000', 'linked to the one before');
  queue.flush();
  t.is(region().toString('hex', 8, 16), '0100' + '0800' + '0000' + '0200');
  t.is(state(0).slice(0, 2) + state(1).slice(0, 2) + state(2).slice(0, 2), '000100');
  queue.push(b, 0);
  queue.flush();
  t.is(region().toString('hex', 12, 16), '0100' + '0300');
});

test('a backend that comes after a crash gets what was in flight, in order, and then the rest', (t) => {
  const { start, add, done } = setup();
  const first = start().queue;
  add('a', 'b', 'c', 'd');
  const [, b] = [pop(first), pop(first), pop(first)];
  first.push(b, 0);
  first.flush();
  t.deepEqual(done(), ['b']);
  add('e');
  const { queue, resubmit } = start(77);
  t.deepEqual(resubmit, [0, 2]);
  t.is(queue.available(), 4);
  t.deepEqual(queue.position, { available: 3, used: 1 });
  for (let chain = queue.pop(); chain; chain = queue.pop()) queue.push(chain, 0);
  queue.flush();
  t.deepEqual(done(), ['a', 'c', 'd', 'e']);
  t.deepEqual(start().resubmit, []);
});

test('what is put back stays in its turn, and is not lost by a crash', (t) => {
  const { start, add, done } = setup();
  add('a', 'b', 'c');
  const first = start().queue;
  [pop(first), pop(first)].forEach(() => undefined);
  const second = start().queue;
  [pop(second), pop(second), pop(second)].forEach(() => undefined);
  second.unpop(2);
  t.is(second.available(), 2);
  t.is(pop(second).head, 1);
  second.unpop(2);
  t.is(second.available(), 3);
  const third = start().queue;
  for (let chain = third.pop(); chain; chain = third.pop()) third.push(chain, 0);
  third.flush();
  t.deepEqual(done(), ['a', 'b', 'c']);
});

/** Serves out of order, in batches, until there is nothing left; may die at any store. */
function serve(queue: SplitQueue): void {
  const held: Chain[] = [];
  for (let chain = queue.pop(); chain; chain = queue.pop()) {
    held.push(chain);
    if (held.length === 2) queue.push(held.pop()!, 0);
    if (queue.outstanding === 1) queue.flush();
  }
  for (const chain of held.reverse()) queue.push(chain, 0);
  queue.flush();
}

test('a backend that dies at any store, and its successor too, returns each buffer just once', (t) => {
  const early = ['a', 'b', 'c', 'd', 'e'];
  const late = ['f', 'g'];
  /** @returns how many backends died */
  const run = (...lives: number[]): number => {
    const { life, start, add, done } = setup();
    add(...early);
    const seen: string[] = [];
    let deaths = 0;
    lives.forEach((stores, index) => {
      try {
        life.stores = stores;
        serve(start().queue);
      } catch (error) {
        if (!(error instanceof Died)) throw error;
        deaths++;
      }
      life.stores = Infinity;
      // A buffer that is returned twice is an error of the driver's side.
      seen.push(...done());
      if (index === 0) add(...late);
    });
    t.deepEqual(seen.sort(), [...early, ...late], `lives of ${lives.join(', ')} stores`);
    return deaths;
  };
  let stores = 0;
  while (run(stores, Infinity, Infinity) > 0) {
    for (const next of [0, 1, 2, 3, 5, 8, 13, 21]) run(stores, next, Infinity);
    stores++;
  }
  t.true(stores > 30, 'every store of a backend that lives');
});

test('a batch may go across the end of the indices', (t) => {
  const memory = new FakeMemory(WINDOW);
  const queue = () =>
    new InflightArea({ size: WINDOW, memory }, description()).queue(0, QUEUE_SIZE);
  const first = queue();
  t.is(first.recover(0xffff), undefined);
  for (const head of [0, 1, 2]) first.taken(head);
  for (const head of [0, 2]) first.used(head);
  t.deepEqual(queue().recover(1), [1], 'used.idx has moved from 65535 to 1');
});

for (const [what, corrupt, message] of [
  ['another version', (r: Buffer) => r.writeUInt16LE(2, 8), /version 2/],
  ['another number of entries', (r: Buffer) => r.writeUInt16LE(4, 10), /4 entries instead of 8/],
  ['a batch that no ring holds', (r: Buffer) => r.writeUInt16LE(100, 14), /a batch of/],
  [
    'a batch that begins nowhere',
    (r: Buffer) => {
      r.writeUInt16LE(0xffff, 14);
      r.writeUInt16LE(8, 12);
    },
    /descriptor 8/,
  ],
] as const) {
  test(`a region with ${what} is refused`, (t) => {
    const { start, region } = setup();
    start();
    corrupt(region());
    t.throws(() => start(), { code: 'INFLIGHT_STATE', message });
  });
}

test('a region for larger rings may not have more in flight than the ring holds', (t) => {
  const memory = new FakeMemory(WINDOW);
  const area = new InflightArea({ size: WINDOW, memory }, description(1, 16, 320));
  t.is(area.queue(0, 8).recover(0), undefined);
  memory.bytes.writeUInt8(1, PLACE + 16 + 16 * 8);
  t.deepEqual(area.queue(0, 16).recover(0), [8]);
  t.throws(() => area.queue(0, 8).recover(0), { code: 'INFLIGHT_STATE' });
});

test('a buffer has to be in the window, and large enough for its queues', (t) => {
  const window = { size: WINDOW, memory: new FakeMemory(WINDOW) };
  const open = (numQueues: number, queueSize: number, mmapSize: number) => () =>
    new InflightArea(window, description(numQueues, queueSize, mmapSize));
  t.notThrows(open(2, QUEUE_SIZE, 2 * REGION));
  t.throws(open(2, QUEUE_SIZE, 2 * REGION - 1), { code: 'INFLIGHT_RANGE' });
  t.throws(open(2, 0, 4096), { code: 'INFLIGHT_RANGE' });
  t.throws(open(1, QUEUE_SIZE, WINDOW - PLACE + 1), { code: 'INFLIGHT_RANGE' });
  const area = new InflightArea(window, description());
  t.throws(() => area.queue(2, QUEUE_SIZE), { code: 'INFLIGHT_QUEUE' });
  t.throws(() => area.queue(0, QUEUE_SIZE * 2), { code: 'INFLIGHT_QUEUE' });
});
