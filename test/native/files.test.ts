import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../src/native.js';
import { codeOf, temporaryDirectory } from './helpers.js';

const directory = temporaryDirectory();
test.after.always(() => {
  rmSync(directory, { recursive: true, force: true });
});

test.serial('memfds cannot shrink, but grow', (t) => {
  const fd = native.createMemfd('sealed', 8192);
  const info = native.fdInfo(fd);
  t.is(info.seals & 2, 2);
  t.is(info.size, 8192);
  t.throws(() => {
    writeFileSync(`/proc/self/fd/${fd}`, '', { flag: 'w' });
  });
  t.is(native.fdInfo(fd).size, 8192);
  native.closeFd(fd);
  for (const size of [-1, 0.5, Number.NaN, 2 ** 53]) {
    t.is(
      codeOf(() => native.createMemfd('bad', size)),
      'OUT_OF_RANGE',
    );
  }
  t.is(
    codeOf(() => native.createMemfd('n'.repeat(300), 4096)),
    'EINVAL',
  );
});

test.serial('openFile makes a file only where there is none', (t) => {
  const path = join(directory, 'window');
  t.is(
    codeOf(() => native.openFile(path, { writable: true })),
    'ENOENT',
  );
  const fd = native.openFile(path, { writable: true, create: 8192 });
  const info = native.fdInfo(fd);
  t.is(info.kind, 'file');
  t.is(info.size, 8192);
  t.true(info.writable);
  const again = native.openFile(path, { writable: false, create: 4096 });
  t.is(native.fdInfo(again).size, 8192);
  t.false(native.fdInfo(again).writable);
  t.is(native.fdInfo(again).ino, info.ino);
  t.is(native.fdInfo(again).dev, info.dev);
  native.closeFd(fd);
  native.closeFd(again);
  t.is(
    codeOf(() => native.openFile(join(directory, 'bad'), { writable: true, create: -1 })),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => native.openFile(directory, { writable: true })),
    'EISDIR',
  );
});

test.serial('fdInfo tells kinds apart', (t) => {
  const eventfd = native.createEventFd();
  t.is(native.fdInfo(eventfd).kind, 'eventfd');
  t.is(native.fdInfo(eventfd).seals, -1);
  t.is(native.fdInfo(eventfd).blockSize, 4096);
  const copy = native.dupFd(eventfd);
  t.not(copy, eventfd);
  native.signalEventFd(copy);
  t.is(native.readEventFd(eventfd), 1);
  native.closeFd(copy);
  native.closeFd(eventfd);
  t.is(
    codeOf(() => {
      native.closeFd(eventfd);
    }),
    'EBADF',
  );
  t.is(
    codeOf(() => native.fdInfo(99_999)),
    'EBADF',
  );
  t.is(
    codeOf(() => native.dupFd(99_999)),
    'EBADF',
  );
  const device = native.openFile('/dev/null', { writable: true });
  t.is(native.fdInfo(device).kind, 'other');
  native.closeFd(device);
  t.notThrows(() => {
    native.fence();
  });
});
