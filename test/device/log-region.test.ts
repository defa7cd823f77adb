import test from 'ava';
import { MemoryTable } from '../../src/device/memory-table.js';
import type { ShownWindowRegion } from '../../src/device/ports.js';
import { FakeFds } from './fakes.js';

const MIB = 2 ** 20;
const PRESET = { dev: 9n, ino: 42n, size: 8 * MIB };

function setup(preset?: typeof PRESET) {
  const fds = new FakeFds();
  const poisoned: string[] = [];
  const applied: (readonly ShownWindowRegion[])[] = [];
  const host = {
    size: 16 * MIB,
    preset,
    dynamic: false,
    apply: (regions: readonly ShownWindowRegion[]) => {
      applied.push(regions);
      return Promise.resolve();
    },
  };
  const table = new MemoryTable(fds.native, host, (what) => poisoned.push(what));
  const region = (at: bigint, size: number, fd = fds.file(size), mmapOffset = 0n) => ({
    guestAddress: at,
    size: BigInt(size),
    userAddress: at,
    ...{ mmapOffset, fd },
  });
  const log = (size: number, file = size, identity = {}, mmapOffset = 0n) => ({
    size: BigInt(size),
    mmapOffset,
    fd: fds.file(file, identity),
  });
  return { fds, table, applied, poisoned, region, log };
}

test('the log is the last region, behind the table', async (t) => {
  const { table, applied, region, log } = setup();
  await table.set([region(0n, 2 * MIB), region(0x10_0000_0000n, MIB)]);
  t.is(await table.setLog(log(8192)), BigInt(3 * MIB));
  t.deepEqual(
    applied.at(-1)?.map(({ placement }) => placement.offset),
    [0, 2 * MIB, 3 * MIB],
  );
});

test('another log replaces the first, whose file is closed', async (t) => {
  const { fds, table, region, log } = setup();
  await table.set([region(0n, MIB)]);
  await table.setLog(log(8192));
  await table.setLog(log(4096));
  t.is(fds.open.size, 2);
  t.is(fds.mapped, 2);
});

test('a table that changes leaves the log in its place', async (t) => {
  const { fds, table, region, log } = setup();
  await table.set([region(0n, MIB)]);
  await table.setLog(log(4096));
  const told = await table.set([region(0n, MIB), region(0x1000_0000n, MIB)]);
  t.deepEqual(
    told.map(({ mmapOffset }) => mmapOffset),
    [0n, 4096n],
    'the second region is behind the log, which is a gap to the driver',
  );
  t.is(fds.open.size, 3);
  await t.throwsAsync(
    table.remove({ guestAddress: 0n, size: 4096n, userAddress: 0n, mmapOffset: 0n }),
    { code: 'REGION_UNKNOWN' },
    'the log is no region of the table',
  );
});

for (const [what, size, file, code] of [
  ['empty', 0, 4096, 'REGION_EMPTY'],
  ['beyond its file', 8192, 4096, 'REGION_BEYOND_FILE'],
  ['larger than the window', 17 * MIB, 17 * MIB, 'WINDOW_FULL'],
  ['of a huge size', 2 ** 60, 4096, 'REGION_OVERFLOW'],
] as const) {
  test(`a log that is ${what} is refused, and the log before it stays`, async (t) => {
    const { fds, table, log } = setup();
    await table.setLog(log(4096));
    await t.throwsAsync(table.setLog(log(size, file)), { code });
    t.is(fds.open.size, 1);
    t.is(table.shown.length, 1);
  });
}

test('a table that is asked for before the log is shown leaves the log alone', async (t) => {
  const { fds, table, region, log } = setup();
  const logged = table.setLog(log(4096));
  await table.set([region(0n, MIB)]);
  t.is(await logged, 0n);
  t.is(table.shown.length, 2);
  t.is(fds.open.size, 2);
});

test('the log goes with the frontend', async (t) => {
  const { fds, table, log } = setup();
  await table.setLog(log(4096));
  await table.clear();
  t.is(fds.open.size, 0);
  t.is(table.shown.length, 0);
});

test('beside a preset file the log is behind all that may show it', async (t) => {
  const { fds, table, region, log } = setup(PRESET);
  await table.set([region(0n, MIB, fds.file(8 * MIB, PRESET), BigInt(2 * MIB))]);
  t.is(await table.setLog(log(8192)), BigInt(8 * MIB));
  t.deepEqual(
    table.shown.map(({ placement }) => placement),
    [
      { offset: 2 * MIB, kind: 'preset' },
      { offset: 8 * MIB, kind: 'trapped' },
    ],
  );
  // The frontend's memory grows: the log is a gap to it.
  await table.set([region(0n, 8 * MIB, fds.file(8 * MIB, PRESET)), region(0x1000_0000n, MIB)]);
  t.deepEqual(
    table.shown.map(({ placement }) => placement.offset).sort((a, b) => a - b),
    [0, 8 * MIB, 9 * MIB - MIB + 8192],
  );
});

test('a log in the preset file itself lies where the file has it', async (t) => {
  const { table, log } = setup(PRESET);
  const place = await table.setLog(log(8192, 8 * MIB, PRESET, BigInt(5 * MIB)));
  t.is(place, BigInt(5 * MIB));
  t.deepEqual(
    table.shown.map(({ placement }) => placement),
    [{ offset: 5 * MIB, kind: 'preset' }],
  );
});

test('a log whose file shrinks is reported, once and by name', async (t) => {
  const { fds, table, poisoned, log } = setup();
  await table.setLog(log(8192));
  fds.maps[0]!.options.onPoisoned?.();
  t.is(poisoned.length, 1);
  t.is(poisoned[0], 'dirty log size 0x2000 mmap_offset 0x0');
  await table.clear();
  fds.maps[0]!.options.onPoisoned?.();
  t.is(poisoned.length, 1, 'what is found after its end is no fault of the next frontend');
});
