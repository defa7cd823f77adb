import { rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../src/native.js';
import { vhostUserFraming } from '../../src/vhost-user/index.js';
import { codeOf, openFds, Recorder, temporaryDirectory, until } from './helpers.js';

const directory = temporaryDirectory();
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

/** One whole vhost-user message of 8 bytes payload. */
const MESSAGE = Buffer.from('010000000500000008000000' + '0011223344556677', 'hex');

test.serial('an fd becomes a socket, which owns it', async (t) => {
  const before = openFds();
  const [ours, theirs] = native.createSocketPair();
  const socket = native.adoptSocket(ours);
  const peer = native.adoptSocket(theirs);
  t.is(openFds(), before + 2);
  const recorder = new Recorder();
  socket.start(vhostUserFraming, recorder);
  peer.send(MESSAGE);
  await recorder.count(1);
  t.deepEqual(recorder.messages[0]?.bytes, MESSAGE);
  peer.close();
  t.is(await recorder.end(), 'EOF');
  socket.close();
  await until(() => openFds() === before);
  t.is(openFds(), before);
});

test.serial('a message may come in pieces, and end in the middle', async (t) => {
  const [ours, theirs] = native.createSocketPair();
  const socket = native.adoptSocket(ours);
  const peer = native.adoptSocket(theirs);
  const recorder = new Recorder();
  socket.start(vhostUserFraming, recorder);
  for (const byte of MESSAGE) {
    peer.send(Uint8Array.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await recorder.count(1);
  t.deepEqual(recorder.messages[0]?.bytes, MESSAGE);
  peer.send(MESSAGE.subarray(0, 15));
  peer.close();
  t.is(await recorder.end(), 'EOF_MID_MESSAGE');
});

test.serial('anything but a connected stream socket stays with the caller', async (t) => {
  const path = join(directory, 'listening');
  const server = createServer();
  server.listen(path);
  await once(server, 'listening');
  const tcp = createServer();
  tcp.listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  const datagram = createSocket('udp4');
  datagram.bind(0, '127.0.0.1');
  await once(datagram, 'listening');
  t.teardown(() => {
    server.close();
    tcp.close();
    datagram.close();
  });
  const handleFd = (holder: object): number => (holder as { _handle: { fd: number } })._handle.fd;
  const own = [native.createEventFd(), native.createMemfd('memory', 4096)];
  const before = openFds();
  for (const fd of [...own, handleFd(server), handleFd(tcp)]) {
    t.is(
      codeOf(() => native.adoptSocket(fd)),
      'BAD_FD_TYPE',
    );
    native.fdInfo(fd);
  }
  t.is(openFds(), before);
  t.is(
    codeOf(() => native.adoptSocket(9999)),
    'EBADF',
  );
  for (const fd of own) native.closeFd(fd);
});

test.serial('a peer that does not read never blocks the sender', (t) => {
  const [ours, theirs] = native.createSocketPair();
  const socket = native.adoptSocket(ours);
  let more = true;
  for (let count = 0; more && count < 1_000_000; count++) more = socket.send(MESSAGE);
  t.false(more, 'the high-water mark');
  t.true(socket.queued > 2 ** 20);
  socket.close();
  native.closeFd(theirs);
});
