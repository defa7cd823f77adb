import test from 'ava';
import { VvuError } from '../../src/errors.js';
import { SplitQueue, readChain, writeChain, type Chain } from '../../src/virtio/split-queue.js';
import { RawRing } from './raw-ring.js';

const WRITE = 2;
const INDIRECT = 4;
const NEXT = 1;
const F_INDIRECT = 1n << 28n;
const F_EVENT_IDX = 1n << 29n;

/** One available chain that starts at descriptor `head`. */
function available(ring: RawRing, head: number): void {
  ring.availEntry(0, head);
  ring.availIndex(1);
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof VvuError && error.scope === 'device') return error.code;
    throw error;
  }
  return 'no error';
}

test('a chain of readable and writable descriptors is walked in order', (t) => {
  const ring = new RawRing(8);
  ring.descriptor(3, 0x4000n, 4, NEXT, 5);
  ring.descriptor(5, 0x4100n, 2, NEXT, 0);
  ring.descriptor(0, 0x4200n, 3, NEXT | WRITE, 7);
  ring.descriptor(7, 0x4300n, 5, WRITE);
  ring.memory.bytes.write('abcd', 0x4000);
  ring.memory.bytes.write('ef', 0x4100);
  available(ring, 3);
  const queue = new SplitQueue(ring.memory, ring.config, 0n);
  const chain = queue.pop();
  t.truthy(chain);
  if (chain === undefined) return;
  t.is(chain.head, 3);
  t.deepEqual(chain.readable, [
    { iova: 0x4000, length: 4 },
    { iova: 0x4100, length: 2 },
  ]);
  t.is(chain.readableLength, 6);
  t.is(chain.writableLength, 8);
  t.is(readChain(ring.memory, chain, 6).toString(), 'abcdef');
  t.is(
    codeOf(() => readChain(ring.memory, chain, 5)),
    'CHAIN_TOO_LONG',
  );
  t.is(writeChain(ring.memory, chain, Buffer.from('12345')), 5);
  t.is(writeChain(ring.memory, chain, Buffer.from('678'), 5), 8);
  t.is(ring.memory.bytes.toString('latin1', 0x4200, 0x4203), '123');
  t.is(ring.memory.bytes.toString('latin1', 0x4300, 0x4305), '45678');
  t.is(
    codeOf(() => writeChain(ring.memory, chain, Buffer.alloc(9))),
    'CHAIN_TOO_SHORT',
  );
  t.is(queue.pop(), undefined);
});

test('used elements appear with flush, after the elements themselves', (t) => {
  const ring = new RawRing(4);
  ring.descriptor(2, 0x4000n, 16, WRITE);
  ring.availEntry(0, 2);
  ring.availIndex(1);
  const queue = new SplitQueue(ring.memory, ring.config, 0n);
  const chain = queue.pop();
  if (chain === undefined) return t.fail();
  queue.push(chain, 9);
  t.is(ring.usedIndex(), 0);
  t.true(queue.flush());
  t.is(ring.usedIndex(), 1);
  t.deepEqual(ring.usedElement(0), { id: 2, length: 9 });
  t.false(queue.flush(), 'nothing new to publish');
  t.throws(() => queue.push(chain, 0), { code: 'NOT_IN_FLIGHT' });
});

test('an indirect table, alone and after direct descriptors', (t) => {
  for (const direct of [false, true]) {
    const ring = new RawRing(4);
    if (direct) ring.descriptor(0, 0x4000n, 8, NEXT, 1);
    // The WRITE flag of a descriptor that names a table means nothing (§2.7.5.3.2).
    ring.descriptor(1, 0x5000n, 48, INDIRECT | WRITE);
    ring.rawDescriptor(0x5000, 0x4100n, 1, NEXT, 2);
    ring.rawDescriptor(0x5020, 0x4200n, 2, NEXT | WRITE, 1);
    ring.rawDescriptor(0x5010, 0x4300n, 3, WRITE);
    available(ring, direct ? 0 : 1);
    const queue = new SplitQueue(ring.memory, ring.config, F_INDIRECT);
    const chain = queue.pop();
    t.is(chain?.readable.length, direct ? 2 : 1);
    t.deepEqual(chain?.writable, [
      { iova: 0x4200, length: 2 },
      { iova: 0x4300, length: 3 },
    ]);
  }
});

test('a large indirect table is read without a limit of the scratch memory', (t) => {
  const ring = new RawRing(8);
  const entries = 200;
  ring.descriptor(0, 0x5000n, entries * 16, INDIRECT);
  for (let i = 0; i < entries; i++) {
    const last = i + 1 === entries;
    ring.rawDescriptor(0x5000 + i * 16, 0x4000n, 1, last ? WRITE : WRITE | NEXT, i + 1);
  }
  available(ring, 0);
  const chain = new SplitQueue(ring.memory, ring.config, F_INDIRECT).pop();
  t.is(chain?.writable.length, entries);
});

test('more buffers in flight than the queue holds is an error, even step by step', (t) => {
  const ring = new RawRing(2);
  ring.descriptor(0, 0x4000n, 1, 0);
  const queue = new SplitQueue(ring.memory, ring.config, 0n);
  ring.availIndex(1);
  const chain = queue.pop();
  ring.availIndex(2);
  t.truthy(queue.pop());
  ring.availIndex(3);
  t.is(
    codeOf(() => queue.pop()),
    'AVAIL_INDEX',
  );
  if (chain === undefined) return t.fail();
  queue.push(chain, 0);
  t.is(
    codeOf(() => queue.pop()),
    'AVAIL_INDEX',
    'the driver cannot have seen what was not flushed',
  );
  queue.flush();
  t.truthy(queue.pop());
});

const badConfigs: [string, object][] = [
  ['QUEUE_SIZE', { size: 0 }],
  ['QUEUE_SIZE', { size: 3 }],
  ['QUEUE_SIZE', { size: 65_536 }],
  ['QUEUE_ALIGNMENT', { descriptorArea: 0x1008 }],
  ['QUEUE_ALIGNMENT', { driverArea: 0x2001 }],
  ['QUEUE_ALIGNMENT', { deviceArea: 0x3002 }],
  ['QUEUE_RANGE', { deviceArea: 2 ** 53 - 8 }],
  ['QUEUE_RANGE', { descriptorArea: -16 }],
];

for (const [code, change] of badConfigs) {
  test(`configuration ${JSON.stringify(change)} is refused`, (t) => {
    const ring = new RawRing(4);
    t.is(
      codeOf(() => new SplitQueue(ring.memory, { ...ring.config, ...change }, 0n)),
      code,
    );
  });
}

test('without event indices the flags decide', (t) => {
  const ring = new RawRing(4);
  ring.descriptor(0, 0x4000n, 1, 0);
  const queue = new SplitQueue(ring.memory, ring.config, 0n);
  const use = (index: number): boolean => {
    ring.availIndex(index);
    const chain = queue.pop();
    if (chain !== undefined) queue.push(chain, 0);
    return queue.flush();
  };
  t.true(use(1));
  ring.availFlags(1);
  t.false(use(2));
  ring.availFlags(0);
  t.true(use(3));
  t.true(ring.memory.fences >= 3, 'a fence stands between used.idx and the flags');
  queue.disableKicks();
  t.is(ring.usedFlags(), 1);
  t.false(queue.enableKicks());
  t.is(ring.usedFlags(), 0);
  ring.availIndex(4);
  t.true(queue.enableKicks(), 'a buffer that came before the flag was seen');
});

test('with event indices a notification is due when used_event is passed', (t) => {
  const ring = new RawRing(4);
  ring.descriptor(0, 0x4000n, 1, 0);
  const queue = new SplitQueue(ring.memory, ring.config, F_EVENT_IDX, {
    available: 0xfffe,
    used: 0xfffe,
  });
  const use = (count: number): boolean => {
    ring.availIndex((queue.position.available + count) & 0xffff);
    for (let i = 0; i < count; i++) {
      const chain = queue.pop();
      if (chain !== undefined) queue.push(chain, 0);
    }
    return queue.flush();
  };
  ring.usedEvent(0x1234);
  t.true(use(1), 'the first one always');
  ring.usedEvent(0);
  t.false(use(1), 'used.idx 0: element 0xffff was used, element 0 is awaited');
  t.is(ring.usedIndex(), 0);
  t.true(use(2), 'elements 0 and 1');
  t.false(use(4), 'already passed');
  ring.usedEvent(9);
  t.false(use(3), 'used.idx 9');
  t.true(use(1), 'used.idx 10: element 9 was used');
  t.false(queue.enableKicks());
  t.is(ring.availEvent(), 10);
  ring.availIndex(11);
  t.true(queue.enableKicks());
});

test('indices wrap at 2^16 and elements at the ring size', (t) => {
  const ring = new RawRing(4);
  for (let i = 0; i < 4; i++) {
    ring.descriptor(i, 0x4000n, 8, WRITE);
    ring.availEntry((0xfffe + i) & 3, i);
  }
  ring.availIndex(2);
  const queue = new SplitQueue(ring.memory, ring.config, 0n, { available: 0xfffe, used: 0xfffe });
  const chains: Chain[] = [];
  t.is(queue.popMany(chains, 32), 4);
  chains.forEach((chain, i) => queue.push(chain, i + 1));
  t.true(queue.flush());
  t.is(ring.usedIndex(), 2);
  t.deepEqual(
    [2, 3, 0, 1].map((slot) => ring.usedElement(slot)),
    [0, 1, 2, 3].map((id) => ({ id, length: id + 1 })),
  );
  t.deepEqual(queue.position, { available: 2, used: 2 });
});

test('popMany takes at most its limit, unpop gives the newest back', (t) => {
  const ring = new RawRing(8);
  for (let i = 0; i < 5; i++) {
    ring.descriptor(i, 0x4000n, 1, 0);
    ring.availEntry(i, i);
  }
  ring.availIndex(5);
  const queue = new SplitQueue(ring.memory, ring.config, 0n);
  const chains: Chain[] = [];
  t.is(queue.popMany(chains, 3), 3);
  queue.unpop(2);
  t.is(queue.outstanding, 1);
  t.is(queue.pop()?.head, 1);
  t.throws(() => queue.unpop(3), { code: 'NOT_IN_FLIGHT' });
});
