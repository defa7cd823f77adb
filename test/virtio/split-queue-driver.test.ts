import test from 'ava';
import { DriverQueue, placeQueue, queueBytes } from '../../src/virtio/split-queue-driver.js';
import { FakeMemory } from './fake-memory.js';

const F_EVENT_IDX = 1n << 29n;

test('the ring is laid out and filled as the specification says', (t) => {
  const memory = new FakeMemory(0x1000, 0x10000);
  memory.bytes.fill(0xee);
  const config = placeQueue(1, 4, 0x10000);
  // Descriptors 4 * 16 = 64; avail 4 + 2 * 4 + 2 = 14; used 4-byte aligned at 80, 4 + 32 + 2.
  t.deepEqual(config, {
    index: 1,
    size: 4,
    descriptorArea: 0x10000,
    driverArea: 0x10040,
    deviceArea: 0x10050,
  });
  t.is(queueBytes(4), 0x50 + 38);
  const queue = new DriverQueue<string>(memory, config, 0n);
  t.true(queue.add([{ iova: 0x1_2345_6789a, length: 16 }], [{ iova: 0x2000, length: 0x100 }], 'a'));
  t.is(memory.loadU16(0x10042), 0, 'not published yet');
  t.true(queue.publish());
  t.is(
    memory.bytes.toString('hex', 0, 32),
    // addr                len        flags  next
    '9a78563412000000' +
      '10000000' +
      '0100' +
      '0100' +
      '0020000000000000' +
      '00010000' +
      '0200' +
      '0000',
  );
  t.is(memory.bytes.toString('hex', 0x40, 0x46), '0000' + '0100' + '0000');
  t.is(queue.free, 2);
});

function oneBuffer(features = 0n): { memory: FakeMemory; queue: DriverQueue<string> } {
  const memory = new FakeMemory(0x1000);
  const queue = new DriverQueue<string>(memory, placeQueue(0, 4, 0), features);
  queue.add([], [{ iova: 0x800, length: 64 }], 'rx');
  queue.publish();
  return { memory, queue };
}

/** Device area at 0x50: flags, idx at 0x52, elements of 8 bytes from 0x54. */
function use(memory: FakeMemory, index: number, slot: number, id: number, length: number): void {
  memory.bytes.writeUInt32LE(id, 0x54 + 8 * slot);
  memory.bytes.writeUInt32LE(length, 0x58 + 8 * slot);
  memory.bytes.writeUInt16LE(index, 0x52);
}

test('a used buffer comes back with its token', (t) => {
  const { memory, queue } = oneBuffer();
  t.is(queue.poll(), undefined);
  use(memory, 1, 0, 0, 64);
  t.deepEqual(queue.poll(), { token: 'rx', written: 64 });
  t.is(queue.poll(), undefined);
  t.is(queue.free, 4);
  t.is(queue.pending, 0);
});

const lies: [string, number, number, number][] = [
  ['USED_ID', 1, 4, 0],
  ['USED_ID', 1, 1, 0],
  ['USED_ID', 1, 0xffffffff, 0],
  ['USED_LENGTH', 1, 0, 65],
  ['USED_INDEX', 2, 0, 0],
  ['USED_INDEX', 0xffff, 0, 0],
];

for (const [code, index, id, length] of lies) {
  test(`a device that claims idx ${index}, id ${id}, length ${length}: ${code}`, (t) => {
    const { memory, queue } = oneBuffer();
    use(memory, index, 0, id, length);
    t.throws(() => queue.poll(), { code });
    t.throws(() => queue.poll(), { code });
    t.is(queue.pending, 1);
  });
}

test('a buffer that was used twice is refused', (t) => {
  const { memory, queue } = oneBuffer();
  queue.add([], [{ iova: 0x900, length: 1 }], 'other');
  use(memory, 1, 0, 0, 1);
  t.is(queue.poll()?.token, 'rx');
  use(memory, 2, 1, 0, 1);
  t.throws(() => queue.poll(), { code: 'USED_ID' });
});

test('a full queue refuses, an empty buffer is a bug', (t) => {
  const memory = new FakeMemory(0x1000);
  const queue = new DriverQueue<number>(memory, placeQueue(0, 2, 0), 0n);
  const segment = { iova: 0x800, length: 1 };
  t.false(queue.add([segment, segment, segment], [], 0));
  t.true(queue.add([segment], [segment], 1));
  t.false(queue.add([segment], [], 2));
  t.throws(() => queue.add([], [], 3), { code: 'EMPTY_BUFFER' });
  t.deepEqual(queue.detachAll(), [1]);
  t.is(queue.free, 2);
});

test('kicks follow the flags, or avail_event', (t) => {
  const plain = oneBuffer();
  plain.memory.bytes.writeUInt16LE(1, 0x50);
  plain.queue.add([], [{ iova: 0x800, length: 1 }], 'x');
  t.false(plain.queue.publish());
  plain.memory.bytes.writeUInt16LE(0, 0x50);
  t.false(plain.queue.publish(), 'nothing new');

  const event = oneBuffer(F_EVENT_IDX);
  // avail_event is behind the 4 elements, at 0x54 + 32.
  event.memory.bytes.writeUInt16LE(2, 0x74);
  event.queue.add([], [{ iova: 0x800, length: 1 }], 'x');
  t.false(event.queue.publish(), 'entry 1 was added, 2 is awaited');
  event.queue.add([], [{ iova: 0x800, length: 1 }], 'y');
  t.true(event.queue.publish());
});

test('interrupt wishes are written where the device looks', (t) => {
  const plain = oneBuffer();
  plain.queue.disableInterrupts();
  t.is(plain.memory.bytes.readUInt16LE(0x40), 1);
  t.false(plain.queue.enableInterrupts());
  t.is(plain.memory.bytes.readUInt16LE(0x40), 0);
  use(plain.memory, 1, 0, 0, 1);
  t.true(plain.queue.enableInterrupts());

  const event = oneBuffer(F_EVENT_IDX);
  use(event.memory, 1, 0, 0, 1);
  event.queue.poll();
  t.false(event.queue.enableInterrupts());
  // used_event is behind the 4 entries, at 0x44 + 8.
  t.is(event.memory.bytes.readUInt16LE(0x4c), 1);
});
