import test from 'ava';
import { MemoryTable } from '../../src/device/memory-table.js';
import type { ShownWindowRegion, WindowHost } from '../../src/device/ports.js';
import type { FrontendRegion } from '../../src/tunnel/ports.js';
import { FakeFds } from './fakes.js';

const MIB = 2 ** 20;

function setup(window: Partial<WindowHost> = {}) {
  const fds = new FakeFds();
  const applied: (readonly ShownWindowRegion[])[] = [];
  const host: WindowHost = {
    size: 64 * MIB,
    preset: undefined,
    dynamic: false,
    apply: (regions) => {
      applied.push(regions);
      return Promise.resolve();
    },
    ...window,
  };
  const poisoned: string[] = [];
  const table = new MemoryTable(fds.native, host, (region) => poisoned.push(region));
  return { fds, table, applied, poisoned };
}

function region(fd: number, at: bigint, size: number, mmapOffset = 0): FrontendRegion {
  return {
    guestAddress: at,
    size: BigInt(size),
    userAddress: 0x7f00_0000_0000n + at,
    mmapOffset: BigInt(mmapOffset),
    fd,
  };
}

function places(shown: readonly ShownWindowRegion[]): number[] {
  return shown.map(({ placement }) => placement.offset);
}

test('a table is mapped, shown and told to the guest with packed offsets', async (t) => {
  const { fds, table, applied } = setup();
  const low = region(fds.file(2 * MIB), 0n, 2 * MIB);
  const high = region(fds.file(4 * MIB), 0x1_0000_0000n, MIB, MIB + 512);
  const told = await table.set([low, high]);
  t.deepEqual(
    told.map(({ guestAddress, mmapOffset }) => [guestAddress, mmapOffset]),
    [
      [0n, 0n],
      [0x1_0000_0000n, 0n],
    ],
  );
  t.deepEqual(places(table.shown), [0, 2 * MIB]);
  t.is(applied.length, 1);
  t.deepEqual(
    fds.maps.map(({ options }) => [options.offset, options.length]),
    [
      [0, 2 * MIB],
      [MIB, MIB + 512],
    ],
    'mappings start at a page of the file',
  );
});

test('a second table replaces the first, and nothing of the first is left', async (t) => {
  const { fds, table } = setup();
  await table.set([region(fds.file(MIB), 0n, MIB), region(fds.file(MIB), 0x100000n, MIB)]);
  await table.set([region(fds.file(MIB), 0n, MIB)]);
  t.is(fds.open.size, 1);
  t.is(fds.mapped, 1);
  await table.clear();
  t.is(fds.open.size, 0);
  t.is(fds.mapped, 0);
  t.deepEqual(table.shown, []);
});

const BAD: Record<string, (fds: FakeFds) => FrontendRegion[]> = {
  REGION_EMPTY: (fds) => [region(fds.file(MIB), 0n, 0)],
  REGION_OVERFLOW: (fds) => [region(fds.file(MIB), 2n ** 64n - 4096n, 8192)],
  'REGION_OVERFLOW (offset)': (fds) => [
    { ...region(fds.file(MIB), 0n, MIB), mmapOffset: 2n ** 64n - 1n },
  ],
  REGION_BEYOND_FILE: (fds) => [region(fds.file(MIB), 0n, MIB, 4096)],
  'REGION_FD (eventfd)': (fds) => [region(fds.eventfd(), 0n, MIB)],
  'REGION_FD (read-only)': (fds) => [region(fds.file(MIB, { writable: false }), 0n, MIB)],
  REGION_OVERLAP: (fds) => [
    region(fds.file(2 * MIB), 0n, 2 * MIB),
    region(fds.file(MIB), BigInt(MIB), MIB),
  ],
  WINDOW_FULL: (fds) => [region(fds.file(65 * MIB), 0n, 65 * MIB)],
};

for (const [name, make] of Object.entries(BAD)) {
  test(`a bad table is refused whole, the old one stays: ${name}`, async (t) => {
    const { fds, table, applied } = setup();
    const old = await table.set([region(fds.file(MIB), 0x5000_0000n, MIB)]);
    const good = region(fds.file(MIB), 0x6000_0000n, MIB);
    const error = await t.throwsAsync(table.set([good, ...make(fds)]));
    t.like(error, { code: name.split(' ')[0], scope: 'request' });
    t.is(old.length, 1);
    t.is(fds.open.size, 1, 'all fds of the refused table were closed');
    t.is(fds.mapped, 1);
    t.is(applied.length, 1, 'the window was not touched');
    t.is(table.shown.length, 1);
  });
}

test('a window that refuses leaves the old table in place', async (t) => {
  let refuse = false;
  const { fds, table } = setup({
    apply: () => (refuse ? Promise.reject(new Error('no')) : Promise.resolve()),
  });
  await table.set([region(fds.file(MIB), 0n, MIB)]);
  refuse = true;
  const error = await t.throwsAsync(table.set([region(fds.file(MIB), 0n, MIB)]));
  t.like(error, { code: 'WINDOW_REFUSED', scope: 'request' });
  t.is(fds.open.size, 1);
  t.is(fds.mapped, 1);
  t.is(table.shown.length, 1);
});

test('regions come and go one by one, told by their absolute offset', async (t) => {
  const { fds, table } = setup();
  const [a, b] = [region(fds.file(MIB), 0n, MIB), region(fds.file(MIB), 0x100000n, MIB)];
  t.is((await table.add(a))?.mmapOffset, 0n);
  t.is((await table.add(b))?.mmapOffset, BigInt(MIB));
  await t.throwsAsync(table.add(region(fds.file(MIB), 0x80000n, MIB)), { message: /overlaps/ });
  t.is((await table.remove(a))?.mmapOffset, 0n);
  const again = region(fds.file(MIB), 0x900000n, MIB);
  t.is((await table.add(again))?.mmapOffset, 0n, 'the gap is used again');
  const { guestAddress, userAddress } = b;
  const mismatch = { guestAddress, userAddress, size: 4096n, mmapOffset: 0n };
  t.like(await t.throwsAsync(table.remove(mismatch)), { code: 'REGION_UNKNOWN' });
  t.is(fds.open.size, 2);
});

test('an identical region is counted, and goes with its last removal', async (t) => {
  const { fds, table, applied } = setup();
  const file = { dev: 7n, ino: 8n };
  const ram = (fd = fds.file(MIB, file), offset = 0) => region(fd, 0n, MIB - 4096, offset);
  t.is((await table.add(ram()))?.mmapOffset, 0n);
  t.is(await table.add(ram()), undefined);
  t.is(await table.add(ram()), undefined);
  t.is(fds.open.size, 1, "the repetitions' fds are closed");
  t.is(applied.length, 1, 'the window is not touched');
  t.is(await table.remove(ram(0)), undefined);
  t.is(await table.remove(ram(0)), undefined);
  t.is(table.shown.length, 1);
  t.is((await table.remove(ram(0)))?.mmapOffset, 0n);
  t.deepEqual(table.shown, []);
  t.like(await t.throwsAsync(table.remove(ram(0))), { code: 'REGION_UNKNOWN' });
  t.is(fds.open.size, 0);
});

test('the same addresses with other bytes behind them are an overlap', async (t) => {
  const { fds, table } = setup();
  const file = { dev: 7n, ino: 8n };
  await table.add(region(fds.file(2 * MIB, file), 0n, MIB));
  const others = [
    region(fds.file(2 * MIB, file), 0n, MIB, 4096),
    region(fds.file(2 * MIB, { ...file, ino: 9n }), 0n, MIB),
    region(fds.file(2 * MIB, { ...file, dev: 9n }), 0n, MIB),
    region(fds.file(2 * MIB, file), 0n, MIB - 4096),
  ];
  for (const other of others) {
    t.like(await t.throwsAsync(table.add(other)), { code: 'REGION_OVERLAP', scope: 'request' });
  }
  t.is(fds.open.size, 1);
});

test('a table that is repeated stays where it is', async (t) => {
  const { fds, table, applied } = setup();
  const [one, two] = [{ ino: 1n }, { ino: 2n }];
  const make = () => [
    region(fds.file(MIB, one), 0n, MIB),
    region(fds.file(MIB, two), BigInt(MIB), MIB),
  ];
  const told = await table.set(make());
  t.deepEqual(await table.set(make()), told);
  t.is(applied.length, 1);
  t.is(fds.open.size, 2);
  t.is(fds.maps.length, 2);
  await table.set(make().slice(0, 1));
  t.is(table.shown.length, 1, 'a part of it is another table');
});

test('a frontend that leaves while its table is being shown leaves nothing behind', async (t) => {
  let shown: () => void = () => undefined;
  const { fds, table } = setup({
    apply: (regions) =>
      regions.length === 0 ? Promise.resolve() : new Promise((resolve) => (shown = resolve)),
  });
  const change = table.set([region(fds.file(MIB), 0n, MIB)]);
  await new Promise((resolve) => setImmediate(resolve));
  const cleared = table.clear();
  shown();
  t.like(await t.throwsAsync(change), { code: 'CLOSED', scope: 'peer' });
  await cleared;
  t.is(fds.open.size, 0);
  t.is(fds.mapped, 0);
});

test('memory that shrinks is reported with the region it belongs to', async (t) => {
  const { fds, table, poisoned } = setup();
  await table.set([region(fds.file(MIB), 0x4000n, MIB)]);
  fds.maps[0]!.options.onPoisoned?.();
  t.is(poisoned.length, 1);
  t.regex(poisoned[0]!, /guest 0x4000 size 0x100000/);
  // What was found in a frontend's last moment is no fault of the next one.
  await table.clear();
  await table.set([region(fds.file(MIB), 0x4000n, MIB)]);
  fds.maps[0]!.options.onPoisoned?.();
  t.is(poisoned.length, 1);
});

test('regions of the preset file are not mapped by the device', async (t) => {
  const preset = { dev: 1n, ino: 5n, size: 16 * MIB };
  const { fds, table } = setup({ preset });
  const fd = fds.file(16 * MIB, preset);
  const [told] = await table.set([region(fd, 0n, 4 * MIB, 8 * MIB)]);
  t.is(told?.mmapOffset, BigInt(8 * MIB));
  t.is(fds.maps.length, 0);
  t.deepEqual(places(table.shown), [8 * MIB]);
});
