import test from 'ava';
import type { RemapOp } from 'vfio-ts-bindings';
import { RegionAreas } from '../../src/guest/region-areas.js';
import { WindowMemory } from '../../src/guest/window-memory.js';
import { native } from '../../src/native.js';

const PAGE = 4096;
const SIZE = 64 * PAGE;
/** The window starts here in its BAR. */
const BASE = 2 * PAGE;

function file(t: { teardown(fn: () => void): void }, pages: number): number {
  const fd = native.createMemfd('test', pages * PAGE);
  t.teardown(() => native.closeFd(fd));
  return fd;
}

const map = (fd: number, page: number, pages: number, filePage = 0): RemapOp => ({
  kind: 'map',
  offset: page * PAGE,
  length: pages * PAGE,
  fd,
  fileOffset: filePage * PAGE,
  readable: true,
  writable: true,
});
const unmap = (page: number, pages: number): RemapOp => ({
  kind: 'unmap',
  offset: page * PAGE,
  length: pages * PAGE,
});

/** A window whose trapped part is a plain buffer, with a log of the messages. */
function open(areas: RegionAreas): { window: WindowMemory; bar: Buffer; log: string[] } {
  const bar = Buffer.alloc(SIZE);
  const log: string[] = [];
  const trapped = {
    read: (offset: number, length: number) => {
      log.push(`read ${offset} ${length}`);
      return bar.subarray(offset, offset + length);
    },
    write: (offset: number, bytes: Uint8Array) => {
      log.push(`write ${offset} ${bytes.length}`);
      bar.set(bytes, offset);
    },
  };
  const window = new WindowMemory(
    areas,
    trapped,
    BASE,
    SIZE - BASE,
    () => log.push('fence'),
    false,
  );
  return { window, bar, log };
}

test('mapped places are memory, the others are messages', (t) => {
  const areas = new RegionAreas(native, SIZE);
  t.teardown(() => areas.clear());
  const fd = file(t, 4);
  areas.apply([map(fd, 4, 2, 1)]);
  const { window, bar, log } = open(areas);
  const offset = 4 * PAGE - BASE;
  t.true(window.mapped(offset, 2 * PAGE));
  t.false(window.mapped(offset, 2 * PAGE + 1));
  t.false(window.mapped(offset - 1, 2));
  window.write(offset, Buffer.from('mapped'));
  window.storeU16(offset + 16, 0x1234);
  window.storeU32(offset + 20, 0xdeadbeef);
  t.is(window.read(offset, 6).toString(), 'mapped');
  t.is(window.loadU16(offset + 16), 0x1234);
  t.is(window.loadU32(offset + 20), 0xdeadbeef);
  t.deepEqual(log, []);
  const memory = native.map(fd, { offset: PAGE, length: PAGE, writable: false });
  t.is(memory.read(0, 6).toString(), 'mapped');
  memory.release();

  window.write(0, Buffer.from('trap'));
  window.storeU16(8, 0x5678);
  window.storeU32(12, 7);
  t.is(bar.toString('latin1', BASE, BASE + 4), 'trap');
  t.is(window.loadU16(8), 0x5678);
  t.is(window.loadU32(12), 7);
  t.is(window.read(0, 4).toString(), 'trap');
  t.deepEqual(log, [
    `write ${BASE} 4`,
    `write ${BASE + 8} 2`,
    `write ${BASE + 12} 4`,
    `read ${BASE + 8} 2`,
    `read ${BASE + 12} 4`,
    `read ${BASE} 4`,
  ]);
});

test('an access that spans both kinds is cut', (t) => {
  const areas = new RegionAreas(native, SIZE);
  t.teardown(() => areas.clear());
  const fd = file(t, 3);
  areas.apply([map(fd, 4, 1), map(fd, 5, 1, 1), map(fd, 7, 1, 2)]);
  const { window, log } = open(areas);
  const bytes = Buffer.alloc(5 * PAGE);
  // No two pages have the same content.
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 8)) & 0xff;
  const offset = 3 * PAGE + 100 - BASE;
  window.write(offset, bytes);
  t.deepEqual(window.read(offset, bytes.length), bytes);
  t.deepEqual(log, [
    `write ${3 * PAGE + 100} ${PAGE - 100}`,
    `write ${6 * PAGE} ${PAGE}`,
    `write ${8 * PAGE} 100`,
    `read ${3 * PAGE + 100} ${PAGE - 100}`,
    `read ${6 * PAGE} ${PAGE}`,
    `read ${8 * PAGE} 100`,
  ]);
});

test('nothing outside of the window is reachable', (t) => {
  const areas = new RegionAreas(native, SIZE);
  const { window, log } = open(areas);
  for (const [offset, length] of [
    [-1, 1],
    [SIZE - BASE, 1],
    [SIZE - BASE - 1, 2],
    [Number.NaN, 1],
    [0, 2 ** 50],
  ] as const) {
    t.throws(() => window.read(offset, length), { code: 'WINDOW_RANGE' });
  }
  t.throws(() => window.loadU16(SIZE - BASE - 1), { code: 'WINDOW_RANGE' });
  t.throws(() => window.storeU32(-4, 0), { code: 'WINDOW_RANGE' });
  t.deepEqual(log, []);
});

test('a refused message is a coded error', (t) => {
  const trapped = {
    read: (): Uint8Array => {
      throw new Error('EIO');
    },
    write: (): void => {
      throw new Error('EIO');
    },
  };
  const areas = new RegionAreas(native, SIZE);
  const window = new WindowMemory(areas, trapped, 0, SIZE, () => undefined, false);
  t.throws(() => window.read(0, 1), { code: 'WINDOW_ACCESS' });
  t.throws(() => window.write(0, Buffer.alloc(1)), { code: 'WINDOW_ACCESS' });
});

test('remaps are all or nothing', (t) => {
  const areas = new RegionAreas(native, SIZE);
  t.teardown(() => areas.clear());
  const fd = file(t, 4);
  areas.apply([map(fd, 4, 2), map(fd, 8, 1)]);
  const refused: [string, RemapOp[]][] = [
    ['REMAP_OVERLAP', [unmap(8, 1), map(fd, 5, 1)]],
    ['REMAP_OVERLAP', [map(fd, 20, 1), map(fd, 20, 1)]],
    ['REMAP_CUT', [unmap(4, 1)]],
    ['REMAP_CUT', [unmap(8, 1), unmap(5, 4)]],
    ['REMAP_RANGE', [unmap(8, 1), map(fd, 64, 1)]],
    ['REMAP_RANGE', [map(fd, -1, 1)]],
    ['REMAP_RANGE', [map(fd, 10, 0)]],
  ];
  for (const [code, ops] of refused) {
    t.throws(() => areas.apply(ops), { code });
    t.is(areas.count, 2);
    t.true(areas.covers(8 * PAGE, PAGE));
    t.false(areas.find(4 * PAGE)?.memory.released);
  }
  const bad = native.createEventFd();
  t.teardown(() => native.closeFd(bad));
  t.throws(() => areas.apply([unmap(8, 1), map(bad, 10, 1)]), undefined, 'an fd without memory');
  t.is(areas.count, 2);
});

test('what is unmapped is released, at once', (t) => {
  const areas = new RegionAreas(native, SIZE);
  const fd = file(t, 4);
  areas.apply([map(fd, 4, 1), map(fd, 5, 1, 1), map(fd, 9, 1)]);
  const first = areas.find(4 * PAGE)!.memory;
  const last = areas.find(9 * PAGE)!.memory;
  areas.apply([unmap(4, 2), map(fd, 4, 1, 3), map(fd, 30, 1), unmap(30, 1)]);
  t.true(first.released);
  t.false(last.released);
  t.is(areas.find(4 * PAGE)?.memory.fileOffset, 3 * PAGE);
  t.is(areas.count, 2);
  areas.clear();
  t.true(last.released);
  t.is(areas.find(9 * PAGE), undefined);
});
