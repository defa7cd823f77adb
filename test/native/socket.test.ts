import test from 'ava';
import { native } from '../../src/native.js';
import {
  codeOf,
  inode,
  openFds,
  pair,
  Recorder,
  turns,
  until,
  vfioMessage,
  vfioUser,
  vhostUser,
} from './helpers.js';

test.serial('delivers whole messages one by one, with the fds of each', async (t) => {
  const { recorder, peer, socket } = pair();
  const first = native.createEventFd();
  const second = native.createMemfd('second', 4096);
  peer.send(vfioMessage(1, 16), [first]);
  peer.send(vfioMessage(2, 64));
  peer.send(vfioMessage(3, 17), [second, first]);
  await recorder.count(3);
  t.deepEqual(recorder.ids(), [1, 2, 3]);
  t.deepEqual(
    recorder.messages.map(({ bytes }) => bytes.length),
    [16, 64, 17],
  );
  t.deepEqual(recorder.messages[1]?.bytes, vfioMessage(2, 64));
  t.deepEqual(
    recorder.messages.map(({ fds }) => fds.length),
    [1, 0, 2],
  );
  const fds = recorder.messages.flatMap((message) => message.fds);
  t.deepEqual(
    fds.map((fd) => inode(fd)),
    [first, second, first].map((fd) => inode(fd)),
  );
  for (const fd of [...fds, first, second]) native.closeFd(fd);
  socket.close();
  peer.close();
});

test.serial('received fds are close-on-exec', async (t) => {
  const { recorder, peer, socket } = pair();
  const fd = native.createEventFd();
  peer.send(vfioMessage(1), [fd]);
  await recorder.count(1);
  const received = recorder.messages[0]?.fds[0] ?? -1;
  const { readFileSync } = await import('node:fs');
  const info = readFileSync(`/proc/self/fdinfo/${received}`, 'utf8');
  const flags = Number.parseInt(/flags:\s+(\d+)/.exec(info)?.[1] ?? '0', 8);
  t.not(flags & 0o2000000, 0);
  native.closeFd(received);
  native.closeFd(fd);
  socket.close();
  peer.close();
});

test.serial('a message cut at every byte arrives whole, its fds with the first byte', async (t) => {
  const before = openFds();
  const message = vfioMessage(7, 40);
  const fd = native.createEventFd();
  for (let cut = 1; cut < message.length; cut++) {
    const { recorder, peer, socket } = pair();
    peer.send(message.subarray(0, cut), [fd]);
    await turns();
    t.is(recorder.messages.length, 0);
    peer.send(message.subarray(cut));
    await recorder.count(1);
    t.deepEqual(recorder.messages[0]?.bytes, message);
    t.is(recorder.messages[0]?.fds.length, 1);
    native.closeFd(recorder.messages[0]?.fds[0] ?? -1);
    socket.close();
    peer.close();
    await recorder.end();
  }
  native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial('the length may exclude the header', async (t) => {
  const { recorder, peer, socket } = pair(vhostUser);
  const bytes = Buffer.from(
    '0f000000 01000000 08000000 1122334455667788 01000000 01000000 00000000'.replaceAll(' ', ''),
    'hex',
  );
  peer.send(bytes);
  await recorder.count(2);
  t.deepEqual(
    recorder.messages.map((message) => message.bytes.length),
    [20, 12],
  );
  socket.close();
  peer.close();
});

test.serial('a slow reader gets big messages in order, each fd once', async (t) => {
  const before = openFds();
  const [reader, writer] = native.socketPair();
  const fd = native.createEventFd();
  let writables = 0;
  const sender = new Recorder();
  sender.onWritable = () => (writables += 1);
  writer.start(vfioUser, sender);
  let accepted = true;
  for (let id = 1; id <= 8; id++) {
    accepted = writer.send(vfioMessage(id, 1_000_000 + id), [fd]);
  }
  t.false(accepted);
  t.true(writer.queued > 1 << 20);
  const recorder = new Recorder();
  reader.start(vfioUser, recorder);
  await recorder.count(8);
  t.is(writer.queued, 0);
  t.is(writables, 1);
  for (const [index, { bytes, fds }] of recorder.messages.entries()) {
    t.true(bytes.equals(vfioMessage(index + 1, 1_000_001 + index)));
    t.is(fds.length, 1);
    for (const received of fds) native.closeFd(received);
  }
  native.closeFd(fd);
  writer.close();
  await recorder.end();
  await sender.end();
  t.is(openFds(), before);
});

test.serial('queued messages own duplicates: the caller may close its fds', async (t) => {
  const [reader, writer] = native.socketPair();
  while (writer.queued === 0) writer.send(vfioMessage(1, 1 << 16));
  const fd = native.createEventFd();
  const node = inode(fd);
  writer.send(vfioMessage(2, 32), [fd]);
  native.closeFd(fd);
  const recorder = new Recorder();
  reader.start(vfioUser, recorder);
  await until(() => recorder.ids().includes(2));
  const received = recorder.messages.at(-1)?.fds ?? [];
  t.deepEqual(received.map(inode), [node]);
  for (const each of received) native.closeFd(each);
  writer.close();
  reader.close();
});

test.serial('pause takes effect before the next message, resume goes on', async (t) => {
  const { recorder, peer, socket } = pair();
  recorder.onMessage = () => {
    socket.pause();
  };
  for (let id = 1; id <= 3; id++) peer.send(vfioMessage(id));
  await recorder.count(1);
  await turns();
  t.deepEqual(recorder.ids(), [1]);
  socket.resume();
  await recorder.count(2);
  await turns();
  t.deepEqual(recorder.ids(), [1, 2]);
  socket.resume();
  await recorder.count(3);
  socket.close();
  peer.close();
});

test.serial('close inside of a message ends delivery; fds behind it are not leaked', async (t) => {
  const before = openFds();
  const { recorder, peer, socket } = pair();
  const fd = native.createEventFd();
  recorder.onMessage = () => {
    socket.close();
    socket.close();
  };
  for (let id = 1; id <= 3; id++) peer.send(vfioMessage(id), id === 1 ? [] : [fd, fd]);
  t.is(await recorder.end(), 'CLOSED');
  await turns();
  t.deepEqual(recorder.calls, ['message', 'closed']);
  peer.close();
  native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial('one peer that never stops cannot starve the loop', async (t) => {
  const { recorder, peer, socket } = pair();
  // Each message is answered by another one before it is taken: the socket is always readable.
  recorder.onMessage = () => {
    peer.send(vfioMessage(1));
  };
  for (let i = 0; i < 200; i++) peer.send(vfioMessage(1));
  let ticks = 0;
  const timer = setInterval(() => (ticks += 1), 1);
  await until(() => ticks >= 5);
  clearInterval(timer);
  t.true(recorder.messages.length > 200);
  socket.close();
  peer.close();
});

test.serial('send after the end discards; wrong arguments are coded errors', async (t) => {
  const { recorder, peer, socket } = pair();
  t.is(
    codeOf(() => socket.send(vfioMessage(1), [99_999])),
    'EBADF',
  );
  t.is(
    codeOf(() => socket.send(vfioMessage(1), [-1])),
    'EBADF',
  );
  t.is(
    codeOf(() => socket.send(Buffer.alloc(0))),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => socket.send('text' as unknown as Buffer)),
    'ERR_INVALID_ARG_TYPE',
  );
  t.is(
    codeOf(() => socket.send(vfioMessage(1), Array<number>(254).fill(0))),
    'OUT_OF_RANGE',
  );
  t.is(
    codeOf(() => {
      socket.start(vfioUser, recorder);
    }),
    'EINVAL',
  );
  peer.close();
  t.is(await recorder.end(), 'EOF');
  t.true(socket.send(vfioMessage(2)));
  t.is(socket.queued, 0);
  socket.close();
  await turns();
  t.is(recorder.closes.length, 1);
});

test.serial('impossible framings are refused', (t) => {
  const [socket, peer] = native.socketPair();
  const bad = [
    { headerSize: 7 },
    { headerSize: 65 },
    { lengthOffset: 13 },
    { lengthOffset: -1 },
    { maxMessage: 15 },
    { maxMessage: 2 ** 31 },
    { maxFds: 254 },
    { maxFds: 1.5 },
    { headerSize: Number.NaN },
  ];
  for (const change of bad) {
    t.is(
      codeOf(() => {
        socket.start({ ...vfioUser, ...change }, new Recorder());
      }),
      'OUT_OF_RANGE',
      JSON.stringify(change),
    );
  }
  socket.close();
  peer.close();
});

test.serial('253 fds travel in one message', async (t) => {
  const before = openFds();
  const { recorder, peer, socket } = pair({ ...vfioUser, maxFds: 253 });
  const fd = native.createEventFd();
  peer.send(vfioMessage(1), Array<number>(253).fill(fd));
  await recorder.count(1);
  t.is(recorder.messages[0]?.fds.length, 253);
  for (const received of recorder.messages[0]?.fds ?? []) native.closeFd(received);
  native.closeFd(fd);
  socket.close();
  peer.close();
  await recorder.end();
  t.is(openFds(), before);
});

test.serial('peer tells who connected', (t) => {
  const [socket, peer] = native.socketPair();
  t.deepEqual(
    { ...socket.peer },
    { pid: process.pid, uid: process.getuid?.() ?? -1, gid: process.getgid?.() ?? -1 },
  );
  socket.close();
  peer.close();
});

test.serial('the classes have no public constructor', (t) => {
  const [socket, peer] = native.socketPair();
  const Constructor = socket.constructor as new () => unknown;
  t.throws(() => new Constructor(), { message: /Illegal constructor/ });
  const send = socket.send.bind({} as typeof socket);
  t.throws(() => send(vfioMessage(1)), { message: /Illegal invocation/ });
  socket.close();
  peer.close();
});
