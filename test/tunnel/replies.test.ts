import test from 'ava';

import * as rig from './rig.js';
import { message, NEED_REPLY, REPLY, Rig, settle, state, table, region, u64 } from './rig.js';

const broken: readonly (readonly [string, string])[] = [
  ['half a header', '010000000500'],
  ['version 2', '010000000600000000000000'],
  ['a size that is not the payload', '010000000500000008000000'],
  ['trailing bytes', `${message(rig.GET_FEATURES, u64(0n), REPLY)}00`],
  ['a payload that does not fit the request', message(rig.GET_FEATURES, '00000000', REPLY)],
];
for (const [what, hex] of broken) {
  test(`a txq message with ${what} is the driver's fault`, (t) => {
    const r = new Rig();
    r.frontend(message(rig.GET_FEATURES));
    t.throws(() => r.guest(hex), { code: 'BAD_GUEST_MESSAGE' });
    t.deepEqual(r.socket.sent, []);
  });
}

test('an acknowledgement is a u64, whatever the message', (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.SET_VRING_NUM, state(0, 256), NEED_REPLY));
  t.throws(() => r.guest(message(rig.SET_VRING_NUM, '00000000', REPLY)), {
    code: 'BAD_GUEST_MESSAGE',
  });
});

test('replies that nobody waits for are dropped, with one warning each', (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.GET_STATUS));
  for (const hex of [
    message(rig.GET_FEATURES, u64(0n), REPLY),
    message(rig.GET_FEATURES, u64(0n), REPLY),
    message(rig.SET_OWNER, u64(0n), REPLY),
    // Back-end requests travel on another channel.
    message(2),
    message(0xffff),
  ]) {
    t.true(r.guest(hex));
  }
  t.deepEqual(r.socket.sent, []);
  const dropped = r.log.filter(({ text }) => /dropped|discarded/.test(text));
  t.deepEqual(
    dropped.map(({ level }) => level),
    ['warn', 'debug', 'warn', 'warn', 'warn'],
  );
  // The reply that is waited for still passes, and only once.
  r.guest(message(rig.GET_STATUS, u64(0xfn), REPLY));
  r.guest(message(rig.GET_STATUS, u64(0xfn), REPLY));
  t.deepEqual(r.socket.sent, [message(rig.GET_STATUS, u64(0xfn), REPLY)]);
});

test('a guest cannot fill the log with dropped messages', (t) => {
  const r = new Rig();
  for (let request = 100; request < 1100; request++) {
    r.guest(message(request, '', REPLY));
  }
  t.true(r.log.filter(({ level }) => level === 'warn').length <= 16);
});

test('replies must come in the order of the requests', (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.GET_STATUS));
  r.frontend(message(rig.GET_VRING_BASE, state(0, 0)));
  r.guest(message(rig.GET_VRING_BASE, state(0, 0), REPLY));
  t.deepEqual(r.socket.sent, []);
  r.guest(message(rig.GET_STATUS, u64(0n), REPLY));
  r.guest(message(rig.GET_VRING_BASE, state(0, 5), REPLY));
  t.deepEqual(r.socket.sent, [
    message(rig.GET_STATUS, u64(0n), REPLY),
    message(rig.GET_VRING_BASE, state(0, 5), REPLY),
  ]);
});

test('a refusal waits for the replies before it', (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.SET_VRING_NUM, state(0, 256), NEED_REPLY));
  r.frontend(message(rig.SET_VRING_NUM, state(1, 255), NEED_REPLY));
  r.frontend(message(rig.SET_VRING_NUM, state(2, 256), NEED_REPLY));
  t.deepEqual(r.socket.sent, []);
  const failure = message(rig.SET_VRING_NUM, u64(1n), REPLY);
  const success = message(rig.SET_VRING_NUM, u64(0n), REPLY);
  r.guest(success);
  t.deepEqual(r.socket.sent, [success, failure]);
  r.guest(success);
  t.deepEqual(r.socket.sent, [success, failure, success]);
});

test('flags of a guest reply are cleaned', (t) => {
  const r = new Rig();
  r.frontend(message(rig.GET_FEATURES));
  r.guest(message(rig.GET_FEATURES, u64(1n), REPLY | NEED_REPLY));
  t.deepEqual(r.socket.sent, [message(rig.GET_FEATURES, u64(1n), REPLY)]);
});

test('a session that is over sends nothing and takes nothing', (t) => {
  const r = new Rig();
  r.frontend(message(rig.GET_FEATURES));
  r.session.close('the backend is down');
  t.true(r.socket.closed);
  t.is(r.closedWith, 'CLOSED');
  t.is(r.backend.closed?.session, r.session);
  t.true(r.guest(message(rig.GET_FEATURES, u64(1n), REPLY)));
  r.session.roomInRxq();
  r.frontend(message(rig.SET_OWNER), 2);
  r.socket.handlers?.closed('CLOSED', '');
  r.session.close('again');
  t.deepEqual(r.socket.sent, []);
  t.is(r.backend.guest.length, 1);
  t.is(r.backend.closedCount, 1);
  t.is(r.fds.open.size, 0);
});

test('a session that was not started drops what a guest still sends', (t) => {
  const r = new Rig();
  const stale = message(rig.GET_FEATURES, u64(1n), REPLY);
  r.session.close('');
  t.true(r.guest(stale));
  const fresh = new Rig();
  t.true(fresh.guest(stale), 'a reply of the previous frontend');
  t.deepEqual(fresh.socket.sent, []);
});

for (const code of [
  'EOF',
  'EOF_MID_MESSAGE',
  'ECONNRESET',
  'CTRUNC',
  'TOO_MANY_FDS',
  'BAD_LENGTH',
]) {
  test(`the end of the socket (${code}) is told to the device once`, (t) => {
    const r = new Rig().negotiate();
    r.frontend(message(rig.SET_VRING_KICK, u64(0n)), 1);
    r.socket.handlers?.closed(code, 'detail');
    r.socket.handlers?.closed(code, 'detail');
    t.is(r.closedWith, code);
    t.is(r.backend.closedCount, 1);
    t.is(r.fds.open.size, 0);
  });
}

test('a table that is ready after the end of its session reaches nobody', async (t) => {
  const r = new Rig().negotiate();
  const gate = rig.makeGate();
  r.backend.gate = gate.closed;
  r.frontend(message(rig.SET_MEM_TABLE, table(region(0n, 4096n, 0n)), NEED_REPLY), 1);
  r.session.close('the backend is down');
  gate.open();
  await settle();
  t.deepEqual(r.traffic(), { guest: [], frontend: [] });
  t.is(r.fds.open.size, 0);
});
