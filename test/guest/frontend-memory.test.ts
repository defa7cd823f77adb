import test from 'ava';
import { FrontendMemory, MAX_MEMORY_SLOTS } from '../../src/guest/frontend-memory.js';
import { FakeMemory } from '../virtio/fake-memory.js';

const WINDOW = 0x10_0000;

function open(): { window: FakeMemory; memory: FrontendMemory } {
  const window = new FakeMemory(WINDOW);
  const memory = new FrontendMemory({
    size: WINDOW,
    memory: window,
    mapped: () => true,
    remaps: true,
    orByte: () => 0,
    file: () => undefined,
  });
  return { window, memory };
}

const region = (
  guestAddress: number | bigint,
  size: number | bigint,
  mmapOffset: number | bigint = 0,
  userAddress: number | bigint = BigInt(guestAddress) + 0x7f00_0000_0000n,
) => ({
  guestAddress: BigInt(guestAddress),
  size: BigInt(size),
  userAddress: BigInt(userAddress),
  mmapOffset: BigInt(mmapOffset),
});

test('a table is packed: each region takes mmap_offset + size', (t) => {
  const { window, memory } = open();
  memory.setTable([
    region(0x1_0000_0000, 0x2000),
    region(0, 0x1000, 0x1000),
    region(0x8000, 0x1000),
  ]);
  // Places: [0, 0x2000), gap of 0x1000, [0x3000, 0x4000), [0x4000, 0x5000).
  memory.write(0x1_0000_1ff0, Buffer.from('high'));
  memory.write(0x10, Buffer.from('low'));
  memory.write(0x8000, Buffer.from('third'));
  t.is(window.bytes.toString('latin1', 0x1ff0, 0x1ff4), 'high');
  t.is(window.bytes.toString('latin1', 0x3010, 0x3013), 'low');
  t.is(window.bytes.toString('latin1', 0x4000, 0x4005), 'third');
  memory.storeU16(0x8010, 0x1234);
  t.is(window.loadU16(0x4010), 0x1234);
  memory.storeU32(0x8010, 0xdeadbeef);
  t.is(memory.loadU32(0x8010), 0xdeadbeef);
  t.is(memory.loadU16(0x8012), 0xdead);
});

test('ADD_MEM_REG names the place in the window', (t) => {
  const { window, memory } = open();
  memory.add(region(0x1000, 0x1000, 0x8000));
  memory.add(region(0x2000, 0x1000, 0x4000));
  // Adjacent for the guest, apart in the window.
  memory.write(0x1ffe, Buffer.from('abcd'));
  t.is(window.bytes.toString('latin1', 0x8ffe, 0x9000), 'ab');
  t.is(window.bytes.toString('latin1', 0x4000, 0x4002), 'cd');
  t.is(memory.read(0x1ffe, 4).toString(), 'abcd');
  memory.remove(region(0x1000, 0x1000));
  t.throws(() => memory.read(0x1ffe, 1), { code: 'DMA_UNMAPPED' });
  t.is(memory.read(0x2000, 2).toString(), 'cd');
});

test('user addresses translate inside of one region only', (t) => {
  const { memory } = open();
  memory.setTable([region(0x1000, 0x1000), region(0x2000, 0x1000, 0, 0x7f00_0000_5000n)]);
  t.is(memory.translateUser(0x7f00_0000_1800n, 0x800), 0x1800);
  t.is(memory.translateUser(0x7f00_0000_5000n, 0x1000), 0x2000);
  for (const [address, length] of [
    [0x7f00_0000_1800n, 0x801],
    [0x7f00_0000_0fffn, 1],
    [0n, 1],
    [(1n << 64n) - 1n, 1],
  ] as const) {
    const error = t.throws(() => memory.translateUser(address, length));
    t.true(['RING_ADDRESS', 'REGION_RANGE'].includes((error as { code?: string }).code ?? ''));
  }
});

const refused: [string, string, ReturnType<typeof region>[]][] = [
  ['beyond the window', 'REGION_WINDOW', [region(0, WINDOW + 1)]],
  ['beyond the window by its offset', 'REGION_WINDOW', [region(0, 0x1000, WINDOW)]],
  ['second beyond the window', 'REGION_WINDOW', [region(0, WINDOW), region(WINDOW, 1)]],
  ['overlap', 'REGION_OVERLAP', [region(0, 0x1000), region(0xfff, 0x1000)]],
  ['size of 2^63', 'REGION_RANGE', [region(0, 1n << 63n)]],
  ['address above 2^53', 'REGION_RANGE', [region(1n << 60n, 0x1000)]],
  ['end above 2^53', 'REGION_RANGE', [region((1n << 53n) - 1n, 0x1000)]],
  ['user address above 2^53', 'REGION_RANGE', [region(0, 0x1000, 0, 1n << 63n)]],
  ['offset above 2^53', 'REGION_RANGE', [region(0, 0x1000, 1n << 62n)]],
  ['empty', 'REGION_WINDOW', [region(0, 0)]],
];

for (const [name, code, regions] of refused) {
  test(`a bad table leaves the old one: ${name}`, (t) => {
    const { memory } = open();
    memory.setTable([region(0x5000, 0x1000)]);
    t.throws(() => memory.setTable(regions), { code });
    t.is(memory.regionCount, 1);
    t.notThrows(() => memory.read(0x5000, 1));
  });
}

test('there is a limit to regions', (t) => {
  const { memory } = open();
  for (let i = 0; i < MAX_MEMORY_SLOTS; i++) memory.add(region(i * 0x1000, 0x1000, i * 0x1000));
  t.throws(() => memory.add(region(MAX_MEMORY_SLOTS * 0x1000, 1, 0)), { code: 'REGION_SLOTS' });
});

test('only exactly what was added can be removed', (t) => {
  const { memory } = open();
  memory.add(region(0x1000, 0x2000));
  for (const other of [
    region(0x2000, 0x1000),
    region(0x1000, 0x1000),
    region(0x1000, 0x2000, 0, 1),
    region(0x9000, 0x1000),
  ]) {
    t.throws(() => memory.remove(other), { code: 'REGION_UNKNOWN' });
  }
  t.is(memory.regionCount, 1);
});

test('accesses outside of the table are errors, without side effects', (t) => {
  const { window, memory } = open();
  memory.add(region(0x1000, 0x1000));
  t.throws(() => memory.write(0x1ffe, Buffer.from('abcd')), { code: 'DMA_UNMAPPED' });
  t.deepEqual([...window.bytes.subarray(0xffe, 0x1000)], [0, 0]);
  t.throws(() => memory.read(0, 1), { code: 'DMA_UNMAPPED' });
  t.throws(() => memory.read(0x1000, 2 ** 40), { code: 'DMA_UNMAPPED' });
  t.throws(() => memory.loadU16(0x1fff), { code: 'DMA_UNMAPPED' });
  t.throws(() => memory.storeU32(0x1ffe, 1), { code: 'DMA_UNMAPPED' });
  memory.clear();
  t.throws(() => memory.read(0x1000, 1), { code: 'DMA_UNMAPPED' });
});
