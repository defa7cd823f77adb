import test from 'ava';
import { DirtyLog } from '../../src/guest/dirty-log.js';

const SIZE = 0x1000;

function open(mmapSize: bigint, mmapOffset: bigint, withFd = true) {
  const bytes = Buffer.alloc(SIZE);
  const counts = { rung: 0, steps: 0 };
  const window = {
    size: SIZE,
    orByte: (offset: number, bits: number) => {
      counts.steps++;
      const before = bytes[offset] ?? 0;
      bytes[offset] = before | bits;
      return before;
    },
  };
  const doorbell = {
    ring: () => {
      counts.rung++;
    },
  };
  const place = { mmapSize, mmapOffset };
  const log = new DirtyLog(window, place, () => (withFd ? doorbell : undefined));
  return { log, bytes, counts };
}

test('bit page % 8 of byte page / 8 is set, for each page that is touched', (t) => {
  const { log, bytes, counts } = open(4n, 0x100n);
  log.mark(0, 1);
  t.is(bytes.readUInt32LE(0x100), 0x1);
  log.mark(0x9fff, 2);
  t.is(bytes.readUInt32LE(0x100), 0x601, 'the two pages that it touches');
  log.mark(0x1000, 0x10000);
  t.is(bytes.readUInt32LE(0x100), 0x1ffff);
  t.is(counts.steps, 1 + 1 + 3, 'one step for each byte');
  log.mark(0x5000, 0);
  t.is(counts.steps, 5);
});

test('the doorbell rings for news only, and only where there is an eventfd', (t) => {
  const { log, counts } = open(4n, 0n);
  log.mark(0x3000, 0x2000);
  log.mark(0x3800, 8);
  t.is(counts.rung, 1);
  log.mark(0x3800, 0x2000);
  t.is(counts.rung, 2);
  const silent = open(4n, 0n, false);
  silent.log.mark(0, 1);
  t.is(silent.counts.rung, 0);
});

test('pages behind the end of the log are left out', (t) => {
  const { log, bytes, counts } = open(1n, 0n);
  log.mark(0x7000, 0x10_0000);
  log.mark(2 ** 40, 4096);
  t.is(bytes[0], 0x80);
  t.is(bytes[1], 0);
  t.is(counts.steps, 1);
});

for (const [what, size, offset] of [
  ['empty', 0n, 0n],
  ['beyond the window', 0x1000n, 1n],
  ['of a huge size', 1n << 63n, 1n << 63n],
] as const) {
  test(`a log that is ${what} is refused`, (t) => {
    t.throws(() => open(size, offset), { code: 'LOG_RANGE' });
  });
}
