import test, { type ExecutionContext } from 'ava';

import * as rig from './rig.js';
import { message, NEED_REPLY, REPLY, Rig, state, u64 } from './rig.js';

// Requests that the device checks and passes, and those that it can only refuse: one test each of
// what the policy's row says.

const SEND_RARP = 19;
const NET_SET_MTU = 20;
const SET_VRING_ENDIAN = 23;
const GET_CONFIG = 24;
const SET_CONFIG = 25;
const CREATE_CRYPTO_SESSION = 26;
const CLOSE_CRYPTO_SESSION = 27;
const POSTCOPY_ADVISE = 28;
const POSTCOPY_LISTEN = 29;
const POSTCOPY_END = 30;
const GPU_SET_SOCKET = 33;
const RESET_DEVICE = 34;
const GET_SHARED_OBJECT = 41;

/** Protocol feature bits. */
const REPLY_ACK = 1n << 3n;
const ack = (result: bigint): string => u64(result);

/** The guest sees the request as it was sent, and the frontend the guest's reply. */
function passes(t: ExecutionContext, r: Rig, request: number, payload: string, reply: string) {
  r.frontend(message(request, payload, NEED_REPLY));
  r.guest(message(request, reply, REPLY));
  t.deepEqual(r.traffic(), {
    guest: [message(request, payload, NEED_REPLY)],
    frontend: [message(request, reply, REPLY)],
  });
  t.is(r.closedWith, undefined);
}

/** The frontend gets the error, the guest nothing. */
function refused(t: ExecutionContext, r: Rig, request: number, payload: string, fds = 0) {
  r.frontend(message(request, payload, NEED_REPLY), fds);
  t.deepEqual(r.traffic(), { guest: [], frontend: [message(request, ack(1n), REPLY)] });
}

/** Refused on a connection that did not accept the feature. */
function needs(t: ExecutionContext, feature: bigint, request: number, payload = '') {
  const without = rig.TUNNELLED_PROTOCOL_FEATURES & ~(1n << feature);
  const r = new Rig().negotiate(without);
  r.frontend(message(request, payload, NEED_REPLY));
  t.deepEqual(r.backend.guest, []);
  t.is(r.log.at(-1)?.level, 'warn');
  t.like(r.log.at(-1)?.fields, { code: 'NOT_NEGOTIATED' });
}

test('a ring is told its size and its base as they are', (t) => {
  const r = new Rig().negotiate();
  passes(t, r, rig.SET_VRING_NUM, state(3, 32768), ack(0n));
  passes(t, r, rig.SET_VRING_BASE, state(3, 0xffff), ack(0n));
  refused(t, r, rig.SET_VRING_NUM, state(3, 100));
  refused(t, r, rig.SET_VRING_NUM, state(3, 65536));
  refused(t, r, rig.SET_VRING_BASE, state(3, 0x10000));
});

test('SEND_RARP passes the address to announce, with RARP', (t) => {
  const r = new Rig().negotiate();
  passes(t, r, SEND_RARP, '525400123456 0000', ack(0n));
  refused(t, r, SEND_RARP, '525400123456');
  needs(t, 2n, SEND_RARP, '525400123456 0000');
});

test('NET_SET_MTU passes an MTU of 16 bits, with NET_MTU', (t) => {
  const r = new Rig().negotiate();
  passes(t, r, NET_SET_MTU, u64(9000n), ack(0n));
  passes(t, r, NET_SET_MTU, u64(1501n), ack(1n));
  refused(t, r, NET_SET_MTU, u64(0x1_0000n));
  needs(t, 4n, NET_SET_MTU, u64(1500n));
});

test('SET_VRING_ENDIAN passes 0 and 1, with CROSS_ENDIAN', (t) => {
  const r = new Rig().negotiate();
  passes(t, r, SET_VRING_ENDIAN, state(1, 0), ack(0n));
  passes(t, r, SET_VRING_ENDIAN, state(1, 1), ack(0n));
  refused(t, r, SET_VRING_ENDIAN, state(1, 2));
  refused(t, r, SET_VRING_ENDIAN, state(8, 1));
  needs(t, 6n, SET_VRING_ENDIAN, state(1, 1));
});

test('configuration space is read and written through the tunnel, with CONFIG', (t) => {
  const r = new Rig().negotiate();
  const piece = (bytes: string, flags = '00000000') => `04000000 06000000 ${flags} ${bytes}`;
  passes(t, r, GET_CONFIG, piece('000000000000'), piece('525400123456'));
  // "A zero-length payload indicates an error to the front-end."
  passes(t, r, GET_CONFIG, piece('000000000000'), '');
  passes(t, r, SET_CONFIG, piece('525400123456', '01000000'), ack(0n));
  refused(t, r, SET_CONFIG, piece('525400123456', '02000000'));
  refused(t, r, SET_CONFIG, piece('5254001234'));
  needs(t, 9n, SET_CONFIG, piece('525400123456'));
  needs(t, 9n, GET_CONFIG, piece('000000000000'));
});

test('crypto sessions pass as bytes, with CRYPTO_SESSION', (t) => {
  const r = new Rig().negotiate();
  const session = 'a5'.repeat(1072);
  passes(t, r, CREATE_CRYPTO_SESSION, session, `${session.slice(16)}0100000000000000`);
  passes(t, r, CLOSE_CRYPTO_SESSION, u64(1n), ack(0n));
  refused(t, r, CLOSE_CRYPTO_SESSION, '01');
  needs(t, 7n, CREATE_CRYPTO_SESSION, session);
  needs(t, 7n, CLOSE_CRYPTO_SESSION, u64(1n));
});

test('RESET_DEVICE passes each time, with its feature', (t) => {
  const r = new Rig().negotiate();
  passes(t, r, RESET_DEVICE, '', ack(0n));
  passes(t, r, RESET_DEVICE, '', ack(0n));
  needs(t, 13n, RESET_DEVICE);
});

test('the device status is set and read through the tunnel, with STATUS', (t) => {
  const r = new Rig().negotiate();
  passes(t, r, rig.SET_STATUS, u64(0xfn), ack(0n));
  passes(t, r, rig.GET_STATUS, '', u64(0xfn));
  refused(t, r, rig.SET_STATUS, u64(0x100n));
  needs(t, 16n, rig.SET_STATUS, u64(1n));
  needs(t, 16n, rig.GET_STATUS);
});

test('with REPLY_ACK a frontend gets the error that it asked for, also of the device', (t) => {
  const r = new Rig().negotiate(REPLY_ACK);
  passes(t, r, rig.SET_OWNER, '', ack(1n));
  refused(t, r, rig.SET_VRING_NUM, state(0, 3));
  // Without need_reply nobody would learn of it but by the end of the connection.
  r.frontend(message(rig.SET_VRING_NUM, state(0, 3)));
  t.is(r.closedWith, 'BAD_QUEUE_SIZE');

  const without = new Rig().negotiate(0n);
  without.frontend(message(rig.SET_VRING_NUM, state(0, 3), NEED_REPLY));
  t.is(without.closedWith, 'BAD_QUEUE_SIZE');
  t.deepEqual(without.traffic(), { guest: [], frontend: [] });
});

test('post-copy is refused: its feature is never offered', (t) => {
  for (const request of [POSTCOPY_ADVISE, POSTCOPY_END]) {
    const r = new Rig().negotiate();
    r.frontend(message(request));
    t.deepEqual(r.traffic(), { guest: [], frontend: [] });
    t.is(r.closedWith, 'NOT_NEGOTIATED', 'it waits for a reply of its own');
  }
  refused(t, new Rig().negotiate(), POSTCOPY_LISTEN, '');
});

test("what would need a guest's fd, or give it one, is refused: GPU socket, shared objects", (t) => {
  const r = new Rig().negotiate();
  refused(t, r, GPU_SET_SOCKET, '', 1);
  t.is(r.fds.open.size, 0, 'the socket is closed');
  // An empty reply says that there is no such object.
  r.frontend(message(GET_SHARED_OBJECT, '00112233445566778899aabbccddeeff'));
  t.deepEqual(r.traffic(), { guest: [], frontend: [message(GET_SHARED_OBJECT, '', REPLY)] });
  t.is(r.closedWith, undefined);
  t.is(r.leaks(), 0);
});
