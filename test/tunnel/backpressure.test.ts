import test from 'ava';

import * as rig from './rig.js';
import { message, NEED_REPLY, region, REPLY, Rig, settle, state, table, u64 } from './rig.js';

test('without rxq buffers one message is held and the socket is left unread', (t) => {
  const r = new Rig().negotiate();
  r.backend.room = 1;
  r.frontend(message(rig.SET_OWNER));
  t.false(r.socket.paused);
  r.frontend(message(rig.SET_VRING_NUM, state(0, 256)));
  t.true(r.socket.paused);
  t.deepEqual(r.traffic().guest, [message(rig.SET_OWNER)]);
  r.session.roomInRxq();
  t.true(r.socket.paused, 'no buffer after all');
  r.backend.room = 1;
  r.session.roomInRxq();
  t.false(r.socket.paused);
  t.deepEqual(r.traffic().guest, [message(rig.SET_VRING_NUM, state(0, 256))]);
  r.session.roomInRxq();
  t.deepEqual(r.traffic().guest, [], 'nothing is sent twice');
});

test('a frontend that leaves while the guest has no buffers is noticed without them', (t) => {
  const r = new Rig().negotiate();
  r.backend.room = 0;
  r.frontend(message(rig.SET_OWNER));
  r.frontend(message(rig.SET_VRING_KICK, u64(0n)), 1);
  t.true(r.socket.paused);
  r.socket.hangUp();
  t.is(r.closedWith, 'EOF');
  t.is(r.fds.open.size, 0);
});

test('a frontend that leaves while the guest owes it replies is noticed without them', (t) => {
  const r = new Rig().negotiate();
  for (let count = 0; count < 16; count++) r.frontend(message(rig.GET_STATUS));
  t.true(r.socket.paused);
  r.socket.hangUp();
  t.is(r.closedWith, 'EOF');
});

test('a frontend that leaves behind a memory table: what came before is read first', async (t) => {
  const r = new Rig().negotiate();
  const gate = rig.makeGate();
  r.backend.gate = gate.closed;
  r.frontend(message(rig.SET_MEM_TABLE, table(region(0n, 0x1000n, 0n))), 1);
  r.socket.hangUp();
  t.is(r.closedWith, undefined);
  gate.open();
  await settle();
  t.false(r.socket.paused, 'its end is read from the socket');
  t.is(r.closedWith, undefined);
  r.backend.room = 0;
  r.frontend(message(rig.SET_OWNER));
  t.is(r.closedWith, 'EOF', 'as soon as it would have to wait');
});

test('messages that a socket delivers after pause keep their order', (t) => {
  const r = new Rig().negotiate();
  r.backend.room = 0;
  const sent = [1, 2, 4, 8].map((num) => message(rig.SET_VRING_NUM, state(0, num)));
  sent.forEach((hex) => r.frontend(hex));
  r.backend.room = 2;
  r.session.roomInRxq();
  t.true(r.socket.paused);
  r.backend.room = Infinity;
  r.session.roomInRxq();
  t.false(r.socket.paused);
  t.deepEqual(r.traffic().guest, sent);
});

test('a socket that never stops delivering ends the session and not the memory', (t) => {
  const r = new Rig().negotiate();
  r.backend.room = 0;
  for (let count = 0; count < 40; count++) {
    r.frontend(message(rig.SET_VRING_KICK, u64(0n)), 1);
  }
  t.is(r.closedWith, 'NOT_PAUSED');
  t.is(r.fds.open.size, 0);
});

test('what comes after a memory table waits until the window shows it', async (t) => {
  const r = new Rig().negotiate();
  const gate = rig.makeGate();
  r.backend.gate = gate.closed;
  r.frontend(message(rig.SET_MEM_TABLE, table(region(0n, 4096n, 0n)), NEED_REPLY), 1);
  t.true(r.socket.paused);
  r.frontend(message(rig.SET_VRING_KICK, u64(0n)), 1);
  await settle();
  t.deepEqual(r.traffic().guest, []);
  gate.open();
  await settle();
  t.false(r.socket.paused);
  t.deepEqual(r.backend.calls, ['kick 0 fd']);
  t.deepEqual(r.traffic().guest, [
    message(rig.SET_MEM_TABLE, table(region(0n, 4096n, 0n, 0xabc000n)), NEED_REPLY),
    message(rig.SET_VRING_KICK, u64(0n)),
  ]);
  r.guest(message(rig.SET_MEM_TABLE, u64(0n), REPLY));
  t.deepEqual(r.traffic().frontend, [message(rig.SET_MEM_TABLE, u64(0n), REPLY)]);
  t.is(r.leaks(), 0);
});

test('a memory table may find rxq full as well', async (t) => {
  const r = new Rig().negotiate();
  r.backend.room = 0;
  r.frontend(message(rig.SET_MEM_TABLE, table(region(0n, 4096n, 0n))), 1);
  r.frontend(message(rig.SET_OWNER));
  await settle();
  t.deepEqual(r.traffic().guest, []);
  t.true(r.socket.paused);
  r.backend.room = Infinity;
  r.session.roomInRxq();
  t.deepEqual(
    r.traffic().guest.map((hex) => hex.slice(0, 8)),
    ['05000000', '03000000'],
  );
  t.false(r.socket.paused);
});

test('sixteen replies may be outstanding, then the socket is left unread', (t) => {
  const r = new Rig().negotiate();
  const ask = message(rig.GET_STATUS);
  for (let count = 0; count < 15; count++) {
    r.frontend(ask);
  }
  t.false(r.socket.paused);
  r.frontend(ask);
  t.true(r.socket.paused);
  r.frontend(ask);
  t.is(r.traffic().guest.length, 16);
  r.guest(message(rig.GET_STATUS, u64(0n), REPLY));
  t.is(r.traffic().guest.length, 1, 'the seventeenth');
  t.true(r.socket.paused);
  for (let count = 0; count < 16; count++) {
    r.guest(message(rig.GET_STATUS, u64(0n), REPLY));
  }
  t.false(r.socket.paused);
  t.is(r.traffic().frontend.length, 16);
});

test('a full socket stops txq and requests until it is writable', (t) => {
  const r = new Rig().negotiate();
  let room = 0;
  r.session.onRoom = () => room++;
  r.socket.highWater = 1;
  const status = message(rig.GET_STATUS, u64(0n), REPLY);
  [1, 2, 3].forEach(() => r.frontend(message(rig.GET_STATUS)));
  t.true(r.guest(status));
  t.false(r.guest(status));
  t.true(r.socket.paused);
  r.socket.highWater = Infinity;
  r.socket.handlers?.writable?.();
  t.is(room, 1);
  t.false(r.socket.paused);
  t.true(r.guest(status));
  t.is(r.traffic().frontend.length, 3);
});

test('a frontend that asks for refusals and never reads them is left unread', (t) => {
  const r = new Rig().negotiate();
  r.socket.highWater = 3;
  for (let count = 0; count < 10; count++) {
    r.frontend(message(0, '', NEED_REPLY));
  }
  t.is(r.socket.sent.length, 4);
  t.true(r.socket.paused);
});

test('a guest may answer from inside the call that tells it', (t) => {
  const r = new Rig().negotiate();
  r.backend.onMessage = () => r.guest(message(rig.GET_STATUS, u64(3n), REPLY));
  for (let count = 0; count < 50; count++) {
    r.frontend(message(rig.GET_STATUS));
  }
  t.is(r.traffic().frontend.length, 50);
  t.false(r.socket.paused);
});

test('a device may close the session from inside the call that tells it', (t) => {
  const r = new Rig().negotiate();
  r.backend.onMessage = () => r.session.close('driver reset');
  r.frontend(message(rig.GET_STATUS));
  r.frontend(message(rig.SET_VRING_KICK, u64(0n)), 1);
  t.is(r.closedWith, 'CLOSED');
  t.is(r.fds.open.size, 0);
  t.is(r.backend.guest.length, 1);
});
