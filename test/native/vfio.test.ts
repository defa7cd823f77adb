import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import { native } from '../../src/native.js';
import { codeOf, openFds, until } from './helpers.js';

// What can be shown without a PCI function: test/vm/guest-driver.test.ts has one.

const root = process.getuid?.() === 0;

test.serial('a signal stores to a file, from the relay thread', async (t) => {
  const source = native.createEventFd();
  const file = native.createMemfd('registers', 8192);
  const memory = native.map(file, { offset: 0, length: 8192, writable: true });
  const before = openFds();
  const relays = [
    native.relayStore(source, file, 4096 + 6, Uint8Array.of(0x34, 0x12)),
    native.relayStore(native.dupFd(source), file, 8, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)),
  ];
  relays[1]?.close();
  native.signalEventFd(source);
  await until(() => memory.loadU16(4096 + 6) !== 0);
  t.is(memory.loadU16(4096 + 6), 0x1234);
  t.deepEqual([...memory.read(4096 + 4, 6)], [0, 0, 0x34, 0x12, 0, 0]);
  t.deepEqual(memory.read(8, 8), Buffer.alloc(8), 'a closed relay stores nothing');

  // The mapping is the relay's own: neither the fd nor the other mapping need last.
  memory.storeU16(4096 + 6, 0);
  const again = native.dupFd(file);
  native.closeFd(file);
  memory.release();
  native.signalEventFd(source);
  const seen = native.map(again, { offset: 0, length: 8192, writable: false });
  await until(() => seen.loadU16(4096 + 6) !== 0);
  t.is(seen.loadU16(4096 + 6), 0x1234);
  for (const relay of relays) relay.close();
  native.signalEventFd(source);
  t.is(native.readEventFd(source), 1, 'nobody takes it any more');
  native.closeFd(source);
  native.closeFd(again);
  seen.release();
  t.true(openFds() <= before);
});

test.serial('a register whose file shrinks does not end the process', async (t) => {
  const source = native.createEventFd();
  const path = `/dev/shm/vvu-register-${process.pid}`;
  const file = native.openFile(path, { writable: true, create: 4096 });
  const relay = native.relayStore(source, file, 0, Uint8Array.of(1, 0));
  const { truncateSync, rmSync } = await import('node:fs');
  truncateSync(path, 0);
  rmSync(path);
  for (let round = 0; round < 3; round++) {
    native.signalEventFd(source);
    await until(() => native.readEventFd(source) === 0);
  }
  relay.close();
  native.closeFd(source);
  native.closeFd(file);
  t.pass();
});

test.serial('what is no register, eventfd or file is refused, and nothing leaks', (t) => {
  const source = native.createEventFd();
  const file = native.createMemfd('registers', 4096);
  const before = openFds();
  const bytes = (count: number): Uint8Array => new Uint8Array(count);
  for (const count of [0, 3, 5, 16]) {
    t.is(
      codeOf(() => native.relayStore(source, file, 0, bytes(count))),
      'OUT_OF_RANGE',
    );
  }
  t.is(
    codeOf(() => native.relayStore(source, file, 1, bytes(2))),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => native.relayStore(source, file, -2, bytes(2))),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => native.relayStore(file, file, 0, bytes(2))),
    'BAD_FD_TYPE',
  );
  t.is(
    codeOf(() => native.relayStore(source, 99_999, 0, bytes(2))),
    'EBADF',
  );
  t.is(
    codeOf(() => native.relayStore(source, source, 0, bytes(2))),
    'ENODEV',
  );
  t.is(
    codeOf(() => native.mapDevice(99_999, 0, 4096)),
    'EBADF',
  );
  t.is(
    codeOf(() => native.mapDevice(file, 0, 0)),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => native.vfioContainer('/nonexistent')),
    'ENOENT',
  );
  t.is(
    codeOf(() => native.vfioContainer('/dev/null')),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioGroup(file, '/dev/null')),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioGroupDevice(file, '0000:00:00.0')),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioDeviceInfo(file)),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioRegionInfo(file, 0)),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioIrqInfo(file, 2)),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioSetIrqEventFds(file, 2, 0, [])),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => native.vfioSetIrqEventFds(file, 2, 0, [-2])),
    'EBADF',
  );
  t.is(
    codeOf(() => native.vfioSetIrqEventFds(file, 2, 0, [-1, source])),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioDisableIrqs(file, 2)),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioReset(file)),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.vfioUnmapDma(file, 0, 4096)),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.iommufdAllocate(file)),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.iommufdAttach(file, file, 1)),
    'ENOTTY',
  );
  t.is(
    codeOf(() => native.iommufdUnmap(file, 1, 0, 4096)),
    'ENOTTY',
  );
  t.is(openFds(), before);
  native.closeFd(file);
  native.closeFd(source);
});

test.serial('released or read-only memory is not given to a device', (t) => {
  const file = native.createMemfd('dma', 4096);
  const readOnly = native.map(file, { offset: 0, length: 4096, writable: false });
  t.is(
    codeOf(() => native.vfioMapDma(file, readOnly, 0)),
    'EACCES',
  );
  t.is(
    codeOf(() => native.iommufdMap(file, 1, readOnly, 0)),
    'EACCES',
  );
  readOnly.release();
  t.is(
    codeOf(() => native.vfioMapDma(file, readOnly, 0)),
    'RELEASED',
  );
  t.is(
    codeOf(() => native.physicalPages(readOnly)),
    'RELEASED',
  );
  native.closeFd(file);
});

test.serial('locked memory has physical pages', (t) => {
  const memory = native.lockedMemory(5 * 4096 + 1, false);
  t.is(memory.size, 5 * 4096 + 1);
  memory.storeU32(4096, 0x12345678);
  t.is(memory.loadU32(4096), 0x12345678);
  t.regex(readFileSync('/proc/self/status', 'utf8'), /VmLck:\s+(?!0 )\d+ kB/);
  if (root && existsSync('/proc/self/pagemap')) {
    const pages = native.physicalPages(memory);
    t.is(pages.length, 6);
    t.is(new Set(pages).size, 6, 'each page is somewhere else');
    for (const address of pages) t.is(address % 4096, 0);
  }
  memory.release();
  t.is(
    codeOf(() => native.lockedMemory(0, false)),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => native.lockedMemory(2 ** 50, true)),
    'ENOMEM',
  );
});
