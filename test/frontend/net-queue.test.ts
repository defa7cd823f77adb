import test, { type ExecutionContext } from 'ava';
import { NetQueuePair, pairBytes } from '../../src/frontend/net-queue.js';
import { FrontendRam } from '../../src/frontend/ram.js';
import { native } from '../../src/native.js';
import { SplitQueue, readChain, writeChain } from '../../src/virtio/split-queue.js';

const SIZE = 8;

/** A pair, and the device's side of its rings in the hands of the test. */
function open(t: ExecutionContext): {
  pair: NetQueuePair;
  kicks: number[];
  echo: (change?: (packet: Buffer) => Buffer) => void;
  take: () => Buffer[];
  give: (packet: Buffer) => void;
} {
  const ram = new FrontendRam(native, 2 * pairBytes(SIZE), { regions: 2 });
  t.teardown(() => ram.close());
  const kicks: number[] = [];
  const pair = new NetQueuePair(3, ram, SIZE, 0n, (vring) => kicks.push(vring));
  const receive = new SplitQueue(ram.memory, pair.receive.config, 0n);
  const transmit = new SplitQueue(ram.memory, pair.transmit.config, 0n);
  const take = (): Buffer[] => {
    const packets: Buffer[] = [];
    for (let chain = transmit.pop(); chain !== undefined; chain = transmit.pop()) {
      packets.push(readChain(ram.memory, chain, 4096));
      transmit.push(chain, 0);
    }
    transmit.flush();
    return packets;
  };
  const give = (packet: Buffer): void => {
    const chain = receive.pop()!;
    receive.push(chain, writeChain(ram.memory, chain, packet));
    receive.flush();
  };
  const echo = (change = (packet: Buffer) => packet): void => {
    for (const packet of take()) {
      packet.writeUInt16LE(1, 10);
      give(change(packet));
    }
  };
  return { pair, kicks, echo, take, give };
}

test('packets carry pair and number, and their echoes are counted', (t) => {
  const { pair, kicks, echo } = open(t);
  pair.fill();
  t.deepEqual(kicks, [6]);
  t.is(pair.send(5), 5);
  t.deepEqual(kicks, [6, 7]);
  t.is(pair.outstanding, 5);
  echo();
  t.is(pair.collect(3), 3);
  t.is(pair.collect(10), 2);
  t.deepEqual(pair.counters, { sent: 5, received: 5, bytes: 300, reordered: 0, corrupt: 0 });
});

test('no more is sent than there are buffers', (t) => {
  const { pair, echo } = open(t);
  pair.fill();
  t.is(pair.send(100), SIZE);
  t.is(pair.send(1), 0);
  echo();
  t.is(pair.send(100), SIZE);
});

test('a changed byte is noticed, wherever it is', (t) => {
  for (const at of [0, 11, 12, 25, 40, 71]) {
    const { pair, echo } = open(t);
    pair.fill();
    pair.send(1);
    echo((packet) => {
      packet.writeUInt8(packet.readUInt8(at) ^ 0x10, at);
      return packet;
    });
    pair.collect(1);
    t.is(pair.counters.corrupt, 1, `byte ${at}`);
  }
});

test('a packet that is too short, too long or empty is noticed', (t) => {
  const { pair, echo } = open(t);
  pair.fill();
  for (const change of [
    (packet: Buffer) => packet.subarray(0, packet.length - 1),
    (packet: Buffer) => Buffer.concat([packet, Buffer.alloc(1)]),
    () => Buffer.alloc(0),
  ]) {
    pair.send(1);
    echo(change);
    pair.collect(1);
  }
  t.is(pair.counters.corrupt + pair.counters.reordered, 3);
});

test('packets out of order are noticed', (t) => {
  const { pair, take, give } = open(t);
  pair.fill();
  pair.send(2);
  for (const packet of take().reverse()) {
    packet.writeUInt16LE(1, 10);
    give(packet);
  }
  pair.collect(2);
  t.is(pair.counters.reordered, 2);
});

test('RAM is shared, placed above the hole, and bounded', (t) => {
  const ram = new FrontendRam(native, 16 * 4096, { regions: 2 });
  t.teardown(() => ram.close());
  t.deepEqual(
    ram.regions.map(({ guestAddress, size, mmapOffset }) => [guestAddress, size, mmapOffset]),
    [
      [0n, 0x8000n, 0n],
      [0x1_0000_0000n, 0x8000n, 0x8000n],
    ],
  );
  const high = ram.allocate(0x8000, 4096);
  t.is(high, 2 ** 32);
  t.is(ram.allocate(0x8000, 4096), 0);
  t.throws(() => ram.allocate(1, 1), { code: 'RAM_FULL' });
  ram.memory.write(high, Buffer.from('shared'));
  const view = native.map(ram.fd, { offset: 0x8000, length: 4096, writable: false });
  t.is(view.read(0, 6).toString(), 'shared');
  view.release();
  t.is(ram.userAddress(high + 5), (ram.regions[1]?.userAddress ?? 0n) + 5n);
  t.throws(() => ram.userAddress(0x8000), { code: 'RAM_ADDRESS' });
  ram.close();
  ram.close();
  t.throws(() => ram.memory.read(0, 1), { code: 'DMA_UNMAPPED' });
});
