import test from 'ava';
import { MemoryTable } from '../../src/device/memory-table.js';
import type { ShownWindowRegion } from '../../src/device/ports.js';
import { FakeFds } from './fakes.js';

const MIB = 2 ** 20;
const SIZE = 16 * MIB;
const SEALED = 2;

function setup(preset?: { dev: bigint; ino: bigint; size: number }, dynamic = false) {
  const fds = new FakeFds();
  const applied: (readonly ShownWindowRegion[])[] = [];
  const host = {
    ...{ size: SIZE, preset, dynamic },
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
  const kept = (size: number, file = size, seals = SEALED, mmapOffset = 0n) => ({
    size: BigInt(size),
    mmapOffset,
    fd: fds.file(file, { seals }),
  });
  return { fds, table, applied, region, kept };
}

test('a buffer is a sealed memfd at the end of the window', async (t) => {
  const { fds, table } = setup();
  const { place, fd } = await table.createInflight(0x3000);
  t.is(place, BigInt(SIZE - 0x3000));
  const [shown] = table.shown;
  t.like(shown, { region: { role: 'inflight', length: 0x3000, guestAddress: undefined } });
  t.is(fds.open.get(fd)?.ino, fds.open.get(shown!.region.fd)?.ino, 'two fds of one file');
  fds.native.closeFd(fd);
  await table.clear();
  t.is(fds.open.size, 0);
});

test('a table that comes after it begins where the window begins', async (t) => {
  const { table, region } = setup();
  await table.createInflight(4096);
  const told = await table.set([region(0n, MIB), region(0x1000_0000n, MIB)]);
  t.deepEqual(
    told.map(({ mmapOffset }) => mmapOffset),
    [0n, 0n],
  );
  await table.set([region(0n, 4 * MIB)]);
  t.is(
    table.shown.find(({ region: { role } }) => role === 'inflight')?.placement.offset,
    SIZE - 4096,
  );
});

test('memory that fits but for the buffer is refused, and the log says why', async (t) => {
  const { fds, table, region } = setup();
  const { fd } = await table.createInflight(4096);
  fds.native.closeFd(fd);
  const whole = table.set([region(0n, SIZE)]);
  await t.throwsAsync(whole, { code: 'WINDOW_FULL', message: /4096 bytes .* in-flight buffer$/ });
  t.is(fds.open.size, 1);
});

test('a log lies behind the table and before the buffer', async (t) => {
  const { table, region, kept } = setup();
  await table.createInflight(4096);
  await table.set([region(0n, MIB)]);
  t.is(await table.setLog(kept(8192)), BigInt(MIB));
  t.is(table.shown.length, 3);
});

test('the buffer that comes back is shown, and takes the place of another', async (t) => {
  const { fds, table, kept } = setup(undefined, true);
  const { fd } = await table.createInflight(0x3000);
  fds.native.closeFd(fd);
  t.is(await table.setInflight(kept(0x1080, 0x3000)), BigInt(SIZE - 0x2000));
  t.like(table.shown, [
    { region: { length: 0x2000, fileOffset: 0 }, placement: { kind: 'dynamic' } },
  ]);
  t.is(fds.open.size, 1);
  t.is(fds.mapped, 1);
});

test('a buffer that ends its file before the page does is trapped', async (t) => {
  const { table, kept } = setup(undefined, true);
  await table.setInflight(kept(0x1080));
  t.like(table.shown, [{ region: { length: 0x1080 }, placement: { kind: 'trapped' } }]);
});

for (const [what, size, file, seals, code] of [
  ['without seals', 4096, 4096, -1, 'REGION_UNSEALED'],
  ['that may shrink', 4096, 4096, 4, 'REGION_UNSEALED'],
  ['beyond its file', 8192, 4096, SEALED, 'REGION_BEYOND_FILE'],
  ['larger than the window', 17 * MIB, 17 * MIB, SEALED, 'WINDOW_FULL'],
] as const) {
  test(`a buffer ${what} is refused, and the one before it stays`, async (t) => {
    const { fds, table, kept } = setup();
    await table.setInflight(kept(4096));
    await t.throwsAsync(table.setInflight(kept(size, file, seals)), { code });
    t.is(fds.open.size, 1);
    t.is(table.shown.length, 1);
  });
}

test('a window that is all preset file has no room for a buffer', async (t) => {
  const { fds, table } = setup({ dev: 9n, ino: 9n, size: SIZE });
  await t.throwsAsync(table.createInflight(4096), { code: 'WINDOW_FULL' });
  t.is(fds.open.size, 0);
});

test('behind a preset file there may be room', async (t) => {
  const { table } = setup({ dev: 9n, ino: 9n, size: SIZE - 8192 });
  t.is((await table.createInflight(4096)).place, BigInt(SIZE - 4096));
});

test('a frontend that leaves meanwhile leaves nothing behind', async (t) => {
  const { fds, table } = setup();
  const creating = table.createInflight(4096);
  const cleared = table.clear();
  await t.throwsAsync(creating, { code: 'CLOSED' });
  await cleared;
  t.is(fds.open.size, 0);
});
