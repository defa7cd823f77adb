import test from 'ava';
import { MemoryTable } from '../../src/device/memory-table.js';
import type { ShownWindowRegion } from '../../src/device/ports.js';
import { FakeFds } from './fakes.js';

const MIB = 2 ** 20;

function setup() {
  const fds = new FakeFds();
  const applied: (readonly ShownWindowRegion[])[] = [];
  const host = {
    size: 16 * MIB,
    preset: undefined,
    dynamic: false,
    apply: (regions: readonly ShownWindowRegion[]) => {
      applied.push(regions);
      return Promise.resolve();
    },
  };
  const table = new MemoryTable(fds.native, host, () => undefined);
  const region = (at: bigint, size: number) => ({
    guestAddress: at,
    size: BigInt(size),
    userAddress: at,
    mmapOffset: 0n,
    fd: fds.file(size),
  });
  const log = (size: number, file = size) => ({
    size: BigInt(size),
    mmapOffset: 0n,
    fd: fds.file(file),
  });
  return { fds, table, applied, region, log };
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
