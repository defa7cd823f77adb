import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { native } from '../../src/native.js';
import {
  codeOf,
  openFds,
  pair,
  Recorder,
  turns,
  until,
  vfioMessage,
  vfioUser,
  vhostUser,
} from './helpers.js';

test.serial('EOF between messages, after the last message', async (t) => {
  const { recorder, peer } = pair();
  peer.send(vfioMessage(1));
  peer.close();
  t.is(await recorder.end(), 'EOF');
  t.deepEqual(recorder.calls, ['message', 'closed']);
});

for (const cut of [1, 15, 16, 31]) {
  test.serial(`EOF_MID_MESSAGE after ${cut} bytes, the fds are closed`, async (t) => {
    const before = openFds();
    const { recorder, peer } = pair();
    const fd = native.createEventFd();
    peer.send(vfioMessage(1, 32).subarray(0, cut), [fd]);
    await turns();
    peer.close();
    t.is(await recorder.end(), 'EOF_MID_MESSAGE');
    t.regex(recorder.closes[0]?.detail ?? '', new RegExp(`${cut} bytes`));
    native.closeFd(fd);
    t.is(openFds(), before);
  });
}

test.serial('ECONNRESET when the peer closes with unread data', async (t) => {
  const { recorder, peer, socket } = pair();
  socket.send(vfioMessage(1));
  peer.close();
  t.is(await recorder.end(), 'ECONNRESET');
});

test.serial('TOO_MANY_FDS: all of them are closed', async (t) => {
  const before = openFds();
  const { recorder, peer } = pair();
  const fd = native.createEventFd();
  peer.send(vfioMessage(1), Array<number>(9).fill(fd));
  t.is(await recorder.end(), 'TOO_MANY_FDS');
  t.is(recorder.messages.length, 0);
  peer.close();
  native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial('fds in the middle of a message are an error and closed', async (t) => {
  const before = openFds();
  const { recorder, peer } = pair();
  const fd = native.createEventFd();
  peer.send(vfioMessage(1, 32).subarray(0, 16), [fd]);
  peer.send(vfioMessage(1, 32).subarray(16), [fd]);
  t.is(await recorder.end(), 'UNEXPECTED_FDS');
  t.is(recorder.messages.length, 0);
  peer.close();
  native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial('CTRUNC when this process can open no more files', (t) => {
  const script = fileURLToPath(new URL('./fixtures/ctrunc.js', import.meta.url));
  const child = spawnSync('sh', ['-c', `ulimit -n 128; exec "${process.execPath}" "${script}"`], {
    encoding: 'utf8',
  });
  t.is(child.stderr, '');
  t.is(child.stdout.trim(), 'CTRUNC 0');
});

test.serial('BAD_LENGTH: below the header, or above maxMessage', async (t) => {
  for (const length of [0, 15, vfioUser.maxMessage + 1, 0xffffffff]) {
    const before = openFds();
    const { recorder, peer } = pair();
    const fd = native.createEventFd();
    const header = vfioMessage(1);
    header.writeUInt32LE(length, 4);
    peer.send(header, [fd]);
    t.is(await recorder.end(), 'BAD_LENGTH', String(length));
    peer.close();
    native.closeFd(fd);
    t.is(openFds(), before);
  }
});

test.serial('BAD_LENGTH: 32-bit overflow of header plus payload', async (t) => {
  const { recorder, peer } = pair(vhostUser);
  const header = Buffer.alloc(12);
  header.writeUInt32LE(0xfffffff8, 8);
  peer.send(header);
  t.is(await recorder.end(), 'BAD_LENGTH');
  peer.close();
});

test.serial('a message of exactly maxMessage is fine', async (t) => {
  const { recorder, peer, socket } = pair({ ...vfioUser, maxMessage: 100 });
  peer.send(vfioMessage(1, 100));
  peer.send(vfioMessage(2, 101));
  t.is(await recorder.end(), 'BAD_LENGTH');
  t.deepEqual(recorder.ids(), [1]);
  socket.close();
  peer.close();
});

test.serial('CLOSED by close(), also when paused, and only once', async (t) => {
  const { recorder, peer, socket } = pair();
  socket.pause();
  socket.close();
  t.is(recorder.closes.length, 0);
  t.is(await recorder.end(), 'CLOSED');
  socket.close();
  await turns();
  t.is(recorder.closes.length, 1);
  peer.close();
});

test.serial('while paused, an end with nothing before it is told at once', async (t) => {
  const { recorder, peer, socket } = pair();
  socket.pause();
  peer.close();
  t.is(await recorder.end(), 'EOF');
});

test.serial('while paused, an end waits for the messages before it', async (t) => {
  const { recorder, peer, socket } = pair();
  socket.pause();
  peer.send(vfioMessage(1));
  peer.close();
  await turns();
  t.deepEqual(recorder.calls, []);
  socket.resume();
  t.is(await recorder.end(), 'EOF');
  t.deepEqual(recorder.calls, ['message', 'closed']);
});

test.serial('sending to a peer that left still delivers what it said', async (t) => {
  const { recorder, peer, socket } = pair();
  socket.pause();
  peer.send(vfioMessage(1));
  peer.close();
  t.true(socket.send(vfioMessage(9)));
  t.true(socket.send(vfioMessage(10)));
  socket.resume();
  await recorder.end();
  t.deepEqual(recorder.calls, ['message', 'closed']);
});

test.serial('a peer that leaves with our output queued ends the connection', async (t) => {
  const before = openFds();
  const { recorder, peer, socket } = pair();
  const fd = native.createEventFd();
  while (socket.queued === 0) socket.send(vfioMessage(1, 1 << 16));
  socket.send(vfioMessage(1, 64), [fd]);
  peer.close();
  t.is(await recorder.end(), 'ECONNRESET');
  t.is(socket.queued, 0);
  native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial(
  'a sender that ignores backpressure loses the connection, not the memory',
  async (t) => {
    const { recorder, peer, socket } = pair();
    const big = vfioMessage(1, 1 << 20);
    for (let i = 0; i < 80; i++) socket.send(big);
    t.is(await recorder.end(), 'ENOBUFS');
    t.is(socket.queued, 0);
    peer.close();
  },
);

test.serial('a socket closed before start tells its handlers afterwards', async (t) => {
  const [socket, peer] = native.socketPair();
  socket.close();
  const recorder = new Recorder();
  socket.start(vfioUser, recorder);
  t.is(await recorder.end(), 'CLOSED');
  t.is(
    codeOf(() => socket.request(vfioMessage(1), 10)),
    'RELEASED',
  );
  peer.close();
});

test.serial('a thousand connections leave no fd behind', async (t) => {
  const before = openFds();
  for (let i = 0; i < 1000; i++) {
    const { recorder, peer, socket } = pair();
    peer.send(vfioMessage(1));
    if (i % 2 === 0) socket.close();
    else peer.close();
    await until(() => recorder.closes.length === 1);
    socket.close();
    peer.close();
  }
  t.is(openFds(), before);
});
