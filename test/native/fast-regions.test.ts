import test from 'ava';
import { native } from '../../src/native.js';
import { openFds, Recorder, turns, vfioUser } from './helpers.js';
import { access, memory, NO_REPLY, setup, write } from './region-access.js';

test.serial('a read of a window is answered with its bytes', async (t) => {
  const { regions, client, replies, server, close } = setup();
  const window = memory(8192);
  window.write(4096, Buffer.from('1122334455667788', 'hex'));
  regions.mapWindow(4, 0x10000, 4096, window, 4096);
  client.send(access(0x1234, { offset: 0x10000, count: 4 }));
  client.send(access(0x1235, { offset: 0x10003, count: 3 }));
  await replies.count(2);
  t.is(
    replies.messages[0]?.bytes.toString('hex'),
    '3412' +
      '0900' +
      '24000000' +
      '01000000' +
      '00000000' + // header
      '0000010000000000' +
      '04000000' +
      '04000000' +
      '11223344',
  );
  t.is(
    replies.messages[1]?.bytes.toString('hex'),
    '3512' +
      '0900' +
      '23000000' +
      '01000000' +
      '00000000' +
      '0300010000000000' +
      '04000000' +
      '03000000' +
      '445566',
  );
  t.deepEqual(server.calls, []);
  window.release();
  await close();
});

test.serial('a write of a window is stored and answered without data', async (t) => {
  const { regions, client, replies, server, close } = setup();
  const window = memory(4096);
  regions.mapWindow(2, 0, 4096, window, 0);
  client.send(write(7, { region: 2, offset: 4092, data: Buffer.from('deadbeef', 'hex') }));
  await replies.count(1);
  t.is(
    replies.messages[0]?.bytes.toString('hex'),
    '0700' +
      '0a00' +
      '20000000' +
      '01000000' +
      '00000000' +
      'fc0f000000000000' +
      '02000000' +
      '04000000',
  );
  t.is(window.read(4092, 4).toString('hex'), 'deadbeef');
  client.send(write(8, { region: 2, flags: NO_REPLY, data: Buffer.from([5]) }));
  client.send(access(9, { region: 2, count: 1 }));
  await replies.count(2);
  // Nothing answered the second write.
  t.deepEqual(replies.ids(), [7, 9]);
  t.is(replies.messages[1]?.bytes.at(-1), 5);
  t.deepEqual(server.calls, []);
  window.release();
  await close();
});

test.serial('a write to a doorbell signals its eventfd', async (t) => {
  const { regions, client, replies, server, close } = setup();
  const eventfds = [native.createEventFd(), native.createEventFd()];
  regions.setDoorbells(2, 0x1000, 4, 3);
  for (const [index, fd] of eventfds.entries()) regions.setDoorbell(index, fd);
  client.send(write(1, { region: 2, offset: 0x1000, data: Buffer.alloc(2) }));
  client.send(write(2, { region: 2, offset: 0x1004, data: Buffer.alloc(4) }));
  client.send(write(3, { region: 2, offset: 0x1006, data: Buffer.alloc(2), flags: NO_REPLY }));
  client.send(write(4, { region: 2, offset: 0x1008, data: Buffer.alloc(1) }));
  await replies.count(3);
  t.deepEqual(replies.ids(), [1, 2, 4]);
  t.is(replies.messages[0]?.bytes.length, 32);
  t.deepEqual(
    eventfds.map((fd) => native.readEventFd(fd)),
    [1, 2],
  );
  t.deepEqual(
    [0, 1, 2].map((index) => regions.doorbellCount(index)),
    [1, 2, 1],
  );
  t.deepEqual(server.calls, []);
  regions.setDoorbell(0, -1);
  client.send(write(5, { region: 2, offset: 0x1000, data: Buffer.alloc(2) }));
  await replies.count(4);
  t.is(native.readEventFd(eventfds[0] ?? -1), 0);
  t.is(regions.doorbellCount(0), 2);
  for (const fd of eventfds) native.closeFd(fd);
  await close();
});

test.serial('whatever does not lie wholly in one range reaches JavaScript', async (t) => {
  const { regions, client, replies, server, close } = setup();
  const window = memory(8192);
  const readOnly = memory(4096, false);
  regions.mapWindow(4, 0x10000, 4096, window, 0);
  regions.mapWindow(4, 0x11000, 4096, window, 4096);
  regions.mapWindow(4, 0x20000, 4096, readOnly, 0);
  regions.setDoorbells(2, 0x1000, 4, 3);
  const four = Buffer.alloc(4);
  const others = [
    access(1, { offset: 0xffff, count: 2 }),
    access(2, { offset: 0x10ffe, count: 4 }),
    access(3, { offset: 0x11ffd, count: 4 }),
    access(4, { offset: 0x12000, count: 1 }),
    access(5, { offset: 0x10000, count: 4, region: 3 }),
    access(6, { offset: 0xffffffffffffffffn, count: 1 }),
    access(7, { offset: 0xfffffffffffffffen, count: 4 }),
    write(8, { offset: 0x20000, data: four }),
    write(9, { region: 2, offset: 0x1002, data: four }),
    write(10, { region: 2, offset: 0x0ffe, data: four }),
    write(11, { region: 2, offset: 0x100c, data: four }),
    write(12, { region: 2, offset: 0x1000, data: Buffer.alloc(8) }),
    access(13, { region: 2, offset: 0x1000, count: 4 }),
    write(14, { region: 3, offset: 0x1000, data: four }),
  ];
  for (const bytes of others) client.send(bytes);
  await server.count(others.length);
  t.deepEqual(
    server.messages.map(({ bytes }) => bytes),
    others,
  );
  client.send(access(15, { offset: 0x20000, count: 4 }));
  await replies.count(1);
  t.deepEqual(replies.ids(), [15]);
  window.release();
  readOnly.release();
  await close();
});

test.serial('malformed accesses reach JavaScript, with their fds', async (t) => {
  const before = openFds();
  const { regions, client, replies, server, close } = setup();
  const window = memory(1 << 22);
  regions.mapWindow(4, 0, 1 << 22, window, 0);
  const short = access(1, { count: 4 });
  short.writeUInt32LE(31, 4);
  const bad = [
    short.subarray(0, 31),
    access(2, { count: 0 }),
    write(3, { count: 0 }),
    write(4, { count: 5, data: Buffer.alloc(4) }),
    write(5, { count: 3, data: Buffer.alloc(4) }),
    access(6, { count: 4, data: Buffer.alloc(4) }),
    access(7, { count: 0xffffffff }),
    // The reply would be longer than a message may be.
    access(8, { count: vfioUser.maxMessage - 31 }),
    access(9, { count: 4, flags: 1 }),
    access(10, { count: 4, flags: NO_REPLY }),
    access(11, { count: 4, flags: 0x20 }),
    access(12, { count: 4, command: 8 }),
    access(13, { count: 4, command: 11 }),
  ];
  for (const bytes of bad) client.send(bytes);
  const fd = native.createEventFd();
  client.send(access(14, { count: 4 }), [fd]);
  await server.count(bad.length + 1);
  t.deepEqual(server.ids(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
  const received = server.messages.at(-1)?.fds ?? [];
  t.is(received.length, 1);
  for (const each of [...received, fd]) native.closeFd(each);
  t.deepEqual(replies.calls, []);
  client.send(access(15, { count: vfioUser.maxMessage - 32 }));
  await replies.count(1);
  t.is(replies.messages[0]?.bytes.length, vfioUser.maxMessage);
  window.release();
  await close();
  t.is(openFds(), before);
});

test.serial('fast replies and JavaScript take turns in order', async (t) => {
  const { regions, client, replies, server, socket, close } = setup();
  const window = memory(4096);
  regions.mapWindow(4, 0, 4096, window, 0);
  server.onMessage = ({ bytes }) => {
    socket.send(bytes);
  };
  for (let id = 0; id < 300; id++) {
    client.send(access(id, { count: 4, region: id % 3 === 0 ? 5 : 4 }));
  }
  await replies.count(300);
  t.deepEqual(
    replies.ids(),
    Array.from({ length: 300 }, (_, id) => id),
  );
  t.is(server.messages.length, 100);
  window.release();
  await close();
});

test.serial('a client that does not read its answers is not read from', async (t) => {
  const [socket, client] = native.socketPair();
  const regions = native.createFastRegions();
  const server = new Recorder();
  socket.attachFastRegions(regions);
  socket.start(vfioUser, server);
  const window = memory(1 << 20);
  window.storeU32(0, 0x600d);
  regions.mapWindow(4, 0, 1 << 20, window, 0);
  const total = 64;
  for (let id = 0; id < total; id++) client.send(access(id, { count: 1 << 20 }));
  await turns();
  t.true(socket.queued > 1 << 20);
  t.true(socket.queued < 4 << 20);
  const replies = new Recorder();
  client.start(vfioUser, replies);
  await replies.count(total);
  t.is(socket.queued, 0);
  t.true(replies.messages.every(({ bytes }) => bytes.readUInt32LE(32) === 0x600d));
  client.close();
  t.is(await server.end(), 'EOF');
  window.release();
});
