import test from 'ava';
import { native } from '../../src/native.js';
import type { NativeFastRegions, NativeMemory } from '../../src/native.js';
import { codeOf, openFds, until } from './helpers.js';
import { access, memory, setup, write } from './region-access.js';

test.serial('windows: many, not overlapping, removed and replaced', async (t) => {
  const { regions, client, replies, server, close } = setup();
  const window = memory(1024 * 4096);
  for (let i = 0; i < 1024; i++) {
    window.storeU32(i * 4096, i);
    // Every other page of the region, in an order that is not sorted.
    const place = (i * 37) % 1024;
    regions.mapWindow(4, place * 8192, 4096, window, place * 4096);
  }
  const map = (offset: number, length: number) => () => {
    regions.mapWindow(4, offset, length, window, 0);
  };
  t.is(codeOf(map(0, 1)), 'EEXIST');
  t.is(codeOf(map(4095, 2)), 'EEXIST');
  t.is(codeOf(map(4096, 4097)), 'EEXIST');
  t.is(codeOf(map(8192 * 1023 + 4095, 1)), 'EEXIST');
  t.is(codeOf(map(4096, 1 << 21)), 'EEXIST');
  t.is(codeOf(map(8192 * 1024, 0)), 'OUT_OF_RANGE');
  t.notThrows(map(4096, 4096));
  regions.unmapWindow(4, 4096);
  regions.unmapWindow(4, 4096);
  for (let i = 0; i < 1024; i++) client.send(access(i, { offset: i * 8192, count: 4 }));
  await replies.count(1024);
  t.deepEqual(
    replies.messages.map(({ bytes }) => bytes.readUInt32LE(32)),
    Array.from({ length: 1024 }, (_, i) => i),
  );
  regions.unmapWindow(4, 8192);
  client.send(access(1, { offset: 8192, count: 4 }));
  await server.count(1);
  t.is(replies.messages.length, 1024);
  window.release();
  await close();
});

test.serial('a released memory falls out of the table', async (t) => {
  const { regions, client, replies, server, close } = setup();
  const window = memory(4096);
  regions.mapWindow(4, 0, 4096, window, 0);
  window.release();
  client.send(access(1, { count: 4 }));
  client.send(write(2, { data: Buffer.alloc(4) }));
  await server.count(2);
  t.deepEqual(replies.calls, []);
  // Its place is free again.
  const next = memory(8192);
  regions.mapWindow(4, 0, 8192, next, 0);
  client.send(access(3, { offset: 4096, count: 4 }));
  await replies.count(1);
  t.is(
    codeOf(() => {
      regions.mapWindow(4, 0x10000, 4096, window, 0);
    }),
    'RELEASED',
  );
  next.release();
  await close();
});

test.serial("the table is its owner's: closed, detached, or replaced", async (t) => {
  const { regions, socket, client, replies, server, close } = setup();
  const window = memory(4096);
  regions.mapWindow(4, 0, 4096, window, 0);
  socket.attachFastRegions(null);
  client.send(access(1, { count: 4 }));
  await server.count(1);
  socket.attachFastRegions(regions);
  client.send(access(2, { count: 4 }));
  await replies.count(1);
  regions.close();
  regions.close();
  client.send(access(3, { count: 4 }));
  await server.count(2);
  for (const use of [
    () => {
      regions.setDoorbells(0, 0, 4, 1);
    },
    () => {
      regions.unmapWindow(4, 0);
    },
    () => {
      socket.attachFastRegions(regions);
    },
    () => regions.doorbellCount(0),
  ]) {
    t.is(codeOf(use), 'RELEASED');
  }
  window.release();
  await close();
});

test.serial('arguments are checked', async (t) => {
  const { regions, socket, close } = setup();
  const window = memory(4096);
  const memfd = native.createMemfd('no-eventfd', 4096);
  regions.setDoorbells(2, 0, 4, 2);
  const cases: [string, () => unknown][] = [
    ['OUT_OF_RANGE', () => regions.doorbellCount(2)],
    [
      'OUT_OF_RANGE',
      () => {
        regions.setDoorbell(2, -1);
      },
    ],
    [
      'EBADF',
      () => {
        regions.setDoorbell(0, 99_999);
      },
    ],
    [
      'BAD_FD_TYPE',
      () => {
        regions.setDoorbell(0, memfd);
      },
    ],
    [
      'OUT_OF_RANGE',
      () => {
        regions.setDoorbells(2, 0, 0, 1);
      },
    ],
    [
      'OUT_OF_RANGE',
      () => {
        regions.setDoorbells(2, 0, 4, 65_537);
      },
    ],
    [
      'OUT_OF_RANGE',
      () => {
        regions.setDoorbells(2, -1, 4, 1);
      },
    ],
    [
      'OUT_OF_RANGE',
      () => {
        regions.setDoorbells(2 ** 32, 0, 4, 1);
      },
    ],
    [
      'OUT_OF_RANGE',
      () => {
        regions.setDoorbells(2, 0, 2 ** 52, 4);
      },
    ],
    [
      'OUT_OF_RANGE',
      () => {
        regions.mapWindow(4, 0, 4097, window, 0);
      },
    ],
    [
      'OUT_OF_RANGE',
      () => {
        regions.mapWindow(4, 0, 4096, window, 1);
      },
    ],
    [
      'ERR_INVALID_ARG_TYPE',
      () => {
        regions.mapWindow(4, 0, 1, {} as NativeMemory, 0);
      },
    ],
    [
      'ERR_INVALID_ARG_TYPE',
      () => {
        socket.attachFastRegions({} as NativeFastRegions);
      },
    ],
  ];
  for (const [code, use] of cases) t.is(codeOf(use), code, use.toString());
  native.closeFd(memfd);
  window.release();
  await close();
});

test.serial('closing the table closes its eventfds', async (t) => {
  const before = openFds();
  const { regions, close } = setup();
  const fd = native.createEventFd();
  regions.setDoorbells(2, 0, 4, 16);
  for (let i = 0; i < 16; i++) regions.setDoorbell(i, fd);
  regions.setDoorbell(3, fd);
  await until(() => openFds() === before + 2 + 1 + 16);
  regions.setDoorbells(2, 0, 4, 2);
  t.is(openFds(), before + 2 + 1);
  regions.setDoorbell(0, fd);
  native.closeFd(fd);
  await close();
  t.is(openFds(), before);
});
