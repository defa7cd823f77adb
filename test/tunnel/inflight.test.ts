import test from 'ava';
import { VvuError } from '../../src/errors.js';
import {
  GET_INFLIGHT_FD,
  GET_STATUS,
  inflight,
  makeGate,
  message,
  NEED_REPLY,
  REPLY,
  Rig,
  SET_INFLIGHT_FD,
  settle,
  TUNNELLED_PROTOCOL_FEATURES,
  u64,
} from './rig.js';

/** What the fakes of this folder use as places in the window. */
const PROVIDED = 0x1ffff000n;
const SHOWN = 0x1fffe000n;
const NONE = inflight(0n, 0n, 0, 0);

async function asked(r: Rig, queues = 2, queueSize = 128): Promise<void> {
  r.frontend(message(GET_INFLIGHT_FD, inflight(0n, 0n, queues, queueSize)));
  await settle();
}

test('GET_INFLIGHT_FD: the guest sets a buffer up, and the frontend gets its memfd', async (t) => {
  const r = new Rig().negotiate();
  await asked(r);
  // 2 queues of 128 descriptors: packed states take 32 bytes each, and the file whole pages.
  t.deepEqual(r.backend.calls, ['create inflight 3000']);
  t.deepEqual(r.backend.guest, [message(GET_INFLIGHT_FD, inflight(0x3000n, PROVIDED, 2, 128))]);
  t.deepEqual(r.socket.sent, []);
  r.guest(message(GET_INFLIGHT_FD, inflight(0x1080n, 0x77n, 2, 128), REPLY));
  t.deepEqual(r.traffic().frontend, [
    message(GET_INFLIGHT_FD, inflight(0x1080n, 0n, 2, 128), REPLY),
  ]);
  t.is(r.socket.sentFds.length, 1);
  t.is(r.fds.open.size, 0, 'the memfd was sent, and closed here');
});

test('SET_INFLIGHT_FD shows the buffer and tells the guest its place', async (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(SET_INFLIGHT_FD, inflight(0x1080n, 0x40n, 2, 128), NEED_REPLY), 1);
  await settle();
  t.deepEqual(r.backend.calls, ['inflight 1080 40']);
  t.deepEqual(r.backend.guest, [
    message(SET_INFLIGHT_FD, inflight(0x1080n, SHOWN, 2, 128), NEED_REPLY),
  ]);
  r.guest(message(SET_INFLIGHT_FD, u64(0n), REPLY));
  t.deepEqual(r.traffic().frontend, [message(SET_INFLIGHT_FD, u64(0n), REPLY)]);
  t.is(r.leaks(), 0);
});

test('requests behind SET_INFLIGHT_FD wait until the window shows the buffer', async (t) => {
  const r = new Rig().negotiate();
  const gate = makeGate();
  r.backend.gate = gate.closed;
  r.frontend(message(SET_INFLIGHT_FD, inflight(0x2000n, 0n, 1, 256)), 1);
  r.frontend(message(GET_STATUS));
  await settle();
  t.deepEqual(r.backend.guest, []);
  gate.open();
  await settle();
  t.is(r.backend.guest.length, 2);
});

test('a guest that has no use for a buffer says so by a size of 0, and no fd is sent', async (t) => {
  const r = new Rig().negotiate();
  await asked(r);
  r.guest(message(GET_INFLIGHT_FD, NONE, REPLY));
  t.deepEqual(r.traffic().frontend, [message(GET_INFLIGHT_FD, NONE, REPLY)]);
  t.deepEqual(r.socket.sentFds, []);
  t.is(r.leaks(), 0);
});

test('a guest that claims more than it was given breaks the rules', async (t) => {
  const r = new Rig().negotiate();
  await asked(r);
  const reply = message(GET_INFLIGHT_FD, inflight(0x3001n, 0n, 2, 128), REPLY);
  t.throws(() => r.guest(reply), { code: 'BAD_GUEST_MESSAGE', message: /0x3001/ });
  t.is(r.leaks(), 0);
});

for (const [what, queues, size] of [
  ['no queue', 0, 128],
  ['queues of size 0', 2, 0],
  ['more queues than the device has', 9, 128],
  ['queues of more than 32768', 1, 32769],
  ['all that 64 queues can be', 64, 32768],
] as const) {
  test(`GET_INFLIGHT_FD for ${what} is answered by a size of 0`, async (t) => {
    const r = new Rig({}, 64).negotiate();
    const queuesOfDevice = what.startsWith('more') ? 65 : queues;
    await asked(r, queuesOfDevice, size);
    t.deepEqual(r.traffic(), {
      guest: [],
      frontend: [message(GET_INFLIGHT_FD, NONE, REPLY)],
    });
    t.is(r.log.at(-1)?.text, 'request refused');
    t.is(r.closedWith, undefined);
    t.is(r.leaks(), 0);
  });
}

test('a window without room for a buffer: the frontend goes on without', async (t) => {
  const r = new Rig().negotiate();
  r.backend.error = new VvuError('WINDOW_FULL', 'request', 'no room');
  await asked(r);
  t.deepEqual(r.traffic(), { guest: [], frontend: [message(GET_INFLIGHT_FD, NONE, REPLY)] });
  t.is(r.leaks(), 0);
});

test('the answer that there is no buffer waits for its turn', async (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(GET_STATUS));
  await asked(r, 0);
  t.deepEqual(r.socket.sent, []);
  r.guest(message(GET_STATUS, u64(15n), REPLY));
  t.deepEqual(r.traffic().frontend, [
    message(GET_STATUS, u64(15n), REPLY),
    message(GET_INFLIGHT_FD, NONE, REPLY),
  ]);
});

test('one connection gets a limited number of buffers', async (t) => {
  const r = new Rig().negotiate();
  for (let count = 0; count < 17; count++) {
    await asked(r);
    if (count < 16) r.guest(message(GET_INFLIGHT_FD, inflight(0x1000n, 0n, 2, 128), REPLY));
  }
  t.is(r.socket.sentFds.length, 16);
  t.is(r.traffic().frontend.at(-1), message(GET_INFLIGHT_FD, NONE, REPLY));
  t.is(r.leaks(), 0);
});

for (const [what, payload] of [
  ['is empty', inflight(0n, 0n, 1, 128)],
  ['is too small for its queues', inflight(0x80fn, 0n, 1, 128)],
  ['is larger than any', inflight(0x200_0001n, 0n, 1, 128)],
  ['is for no queue', inflight(0x1000n, 0n, 0, 128)],
  ['is for too many queues', inflight(0x100000n, 0n, 9, 128)],
] as const) {
  test(`SET_INFLIGHT_FD with a buffer that ${what} is refused`, async (t) => {
    const r = new Rig().negotiate();
    r.frontend(message(SET_INFLIGHT_FD, payload, NEED_REPLY), 1);
    await settle();
    t.deepEqual(r.traffic(), {
      guest: [],
      frontend: [message(SET_INFLIGHT_FD, u64(1n), REPLY)],
    });
    t.like(r.log.at(-1), { fields: { code: 'BAD_INFLIGHT' } });
    t.is(r.fds.open.size, 0);
  });
}

for (const [request, fds] of [
  [GET_INFLIGHT_FD, 0],
  [SET_INFLIGHT_FD, 1],
] as const) {
  test(`request ${request} without INFLIGHT_SHMFD ends the connection`, async (t) => {
    const r = new Rig().negotiate(TUNNELLED_PROTOCOL_FEATURES & ~(1n << 12n));
    r.frontend(message(request, inflight(0x3000n, 0n, 1, 128)), fds);
    await settle();
    t.is(r.closedWith, 'NOT_NEGOTIATED');
    t.is(r.fds.open.size, 0);
  });
}

test('a frontend that leaves before the guest has answered leaks nothing', async (t) => {
  const r = new Rig().negotiate();
  await asked(r);
  t.is(r.fds.open.size, 1);
  t.is(r.leaks(), 0);
});

test('a frontend that leaves while its buffer is being made leaks nothing', async (t) => {
  const r = new Rig().negotiate();
  const gate = makeGate();
  r.backend.gate = gate.closed;
  await asked(r);
  r.session.close('test');
  gate.open();
  await settle();
  t.is(r.fds.open.size, 0);
});
