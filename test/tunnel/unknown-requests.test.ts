import test from 'ava';

import * as rig from './rig.js';
import { message, NEED_REPLY, REPLY, Rig, u64 } from './rig.js';

/** A number that no revision has given to a request yet. */
const LATER = 1000;
const BODY = '0011223344556677 8899';

test('unknown requests pass as they are, with one line', (t) => {
  const r = new Rig().negotiate();
  for (let count = 0; count < 20; count++) r.frontend(message(LATER, BODY));
  t.deepEqual(r.traffic(), {
    guest: Array<string>(20).fill(message(LATER, BODY)),
    frontend: [],
  });
  const warned = r.log.filter(({ level }) => level === 'warn');
  t.deepEqual(
    warned.map(({ text }) => text),
    ['unknown request of the frontend passed on'],
  );
  t.is(r.closedWith, undefined);
});

test('what a guest answers to an unknown request passes, asked for or not', (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(LATER, BODY, NEED_REPLY));
  t.deepEqual(r.traffic().guest, [message(LATER, BODY, NEED_REPLY)]);
  r.guest(message(LATER, '00010203', REPLY));
  r.frontend(message(LATER, BODY));
  r.guest(message(LATER, '', REPLY));
  r.guest(message(LATER, '', REPLY));
  t.deepEqual(r.traffic(), {
    guest: [message(LATER, BODY)],
    frontend: [message(LATER, '00010203', REPLY), message(LATER, '', REPLY)],
  });
});

test('nothing waits for a reply that may not exist', (t) => {
  const r = new Rig().negotiate();
  for (let count = 0; count < 100; count++) r.frontend(message(LATER));
  r.frontend(message(rig.SET_VRING_NUM, rig.state(0, 3), NEED_REPLY));
  r.frontend(message(rig.GET_STATUS));
  t.deepEqual(r.traffic().frontend, [message(rig.SET_VRING_NUM, u64(1n), REPLY)]);
  t.false(r.socket.paused);
  r.guest(message(rig.GET_STATUS, u64(0n), REPLY));
  t.deepEqual(r.traffic().frontend, [message(rig.GET_STATUS, u64(0n), REPLY)]);
});

test('without REPLY_ACK an unknown request asks for nothing', (t) => {
  const r = new Rig().negotiate(0n);
  r.frontend(message(LATER, BODY, NEED_REPLY));
  t.deepEqual(r.traffic().guest, [message(LATER, BODY)]);
});

test('unknown requests of the guest pass over the channel, and are answered', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  r.guest(message(LATER, BODY, NEED_REPLY));
  channel.says(message(LATER, '0102', REPLY));
  r.guest(message(LATER, BODY));
  channel.says(message(LATER, u64(0n), REPLY));
  t.deepEqual(channel.sent, [message(LATER, BODY, NEED_REPLY), message(LATER, BODY)]);
  t.deepEqual(r.traffic().guest, [message(LATER, '0102', REPLY), message(LATER, u64(0n), REPLY)]);
  channel.says(message(LATER, u64(0n), REPLY));
  t.true(channel.closed, 'once for each');
});

test('an option refuses unknown requests of both sides', (t) => {
  const r = new Rig({ rules: { unknownRequests: 'refuse' } }).negotiate();
  const channel = r.openChannel();
  r.guest(message(LATER, BODY, NEED_REPLY));
  t.deepEqual(channel.sent, []);
  r.frontend(message(LATER, BODY, NEED_REPLY));
  t.deepEqual(r.traffic(), {
    guest: [message(LATER, u64(1n), REPLY)],
    frontend: [message(LATER, u64(1n), REPLY)],
  });
  t.like(r.log.at(-1), { text: 'request refused', fields: { code: 'UNKNOWN_REQUEST' } });
  r.frontend(message(LATER, BODY));
  t.is(r.closedWith, 'UNKNOWN_REQUEST');
});

test('nobody can swap the bytes of an unknown request', (t) => {
  const r = new Rig({ order: 'BE' });
  r.frontend('000003e80000000100000000');
  t.is(r.closedWith, 'UNKNOWN_REQUEST');
});

test('features that the operator hides are not offered', (t) => {
  const r = new Rig({ rules: { hiddenFeatures: ['BACKEND_REQ', 'LOG_SHMFD'] } });
  r.exchange(rig.GET_FEATURES, u64(rig.ALL_FEATURES));
  r.forget();
  r.exchange(rig.GET_PROTOCOL_FEATURES, u64(rig.ALL_PROTOCOL_FEATURES));
  const left = rig.TUNNELLED_PROTOCOL_FEATURES & ~0x22n;
  t.deepEqual(r.traffic().frontend, [message(rig.GET_PROTOCOL_FEATURES, u64(left), REPLY)]);
  r.frontend(message(rig.SET_PROTOCOL_FEATURES, u64(0x20n)));
  t.is(r.closedWith, 'FEATURES_NOT_OFFERED');
});
