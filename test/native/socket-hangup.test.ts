import test from 'ava';
import { native, type NativeSocket } from '../../src/native.js';
import { openFds, Recorder, turns, until, vhostUser } from './helpers.js';

const request = Buffer.from('010000000100000000000000', 'hex');

function watched(): { socket: NativeSocket; peer: NativeSocket; hangups: () => number } {
  const [socket, peer] = native.socketPair();
  let count = 0;
  socket.watchHangup(() => count++);
  return { socket, peer, hangups: () => count };
}

for (const unread of [0, 1, 1000]) {
  test.serial(
    `a peer that leaves before the start is noticed behind ${unread} messages`,
    async (t) => {
      const before = openFds();
      const { socket, peer, hangups } = watched();
      for (let i = 0; i < unread; i++) peer.send(request);
      await turns();
      t.is(hangups(), 0, 'a peer that is silent is there');
      peer.close();
      await until(() => hangups() > 0);
      await turns();
      t.is(hangups(), 1, 'once');
      socket.close();
      await until(() => openFds() === before);
      t.is(openFds(), before);
    },
  );
}

test.serial('what the peer sent before is still there to be read', async (t) => {
  const { socket, peer, hangups } = watched();
  peer.send(request);
  peer.close();
  await until(() => hangups() === 1);
  const recorder = new Recorder();
  socket.start(vhostUser, recorder);
  t.is(await recorder.end(), 'EOF');
  t.deepEqual(recorder.calls, ['message', 'closed']);
});

test.serial(
  'a paused socket tells a hangup behind unread messages, and its end after them',
  async (t) => {
    const { socket, peer, hangups } = watched();
    const recorder = new Recorder();
    socket.start(vhostUser, recorder);
    socket.pause();
    peer.send(request);
    peer.close();
    await until(() => hangups() === 1);
    t.deepEqual(recorder.calls, []);
    socket.resume();
    t.is(await recorder.end(), 'EOF');
    t.is(hangups(), 1);
  },
);

test.serial('a paused socket without unread messages tells its end', async (t) => {
  const { socket, peer, hangups } = watched();
  const recorder = new Recorder();
  socket.start(vhostUser, recorder);
  socket.pause();
  peer.close();
  t.is(await recorder.end(), 'EOF');
  t.is(hangups(), 0);
});

test.serial('the latest callback counts, and none after close', async (t) => {
  const { socket, peer, hangups } = watched();
  let second = 0;
  socket.watchHangup(() => second++);
  peer.close();
  await until(() => second === 1);
  t.is(hangups(), 0);
  const other = watched();
  other.socket.close();
  other.peer.close();
  await turns();
  t.is(other.hangups(), 0);
  socket.close();
});

test.serial('a callback may close, and start, its socket', async (t) => {
  const [first, firstPeer] = native.socketPair();
  let closed = false;
  first.watchHangup(() => {
    first.close();
    closed = true;
  });
  firstPeer.close();
  await until(() => closed);
  const [second, secondPeer] = native.socketPair();
  const recorder = new Recorder();
  second.watchHangup(() => second.start(vhostUser, recorder));
  secondPeer.send(request);
  secondPeer.close();
  t.is(await recorder.end(), 'EOF');
  t.deepEqual(recorder.calls, ['message', 'closed']);
});

test.serial('something else than a function is refused', (t) => {
  const [socket, peer] = native.socketPair();
  // @ts-expect-error no function
  t.throws(() => socket.watchHangup(1), { code: 'ERR_INVALID_ARG_TYPE' });
  socket.close();
  peer.close();
});
