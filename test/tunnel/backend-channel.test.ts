import test from 'ava';

import { VvuError } from '../../src/errors.js';
import * as rig from './rig.js';
import { message, NEED_REPLY, REPLY, Rig, settle, state, u64 } from './rig.js';

const CHANGED = message(rig.CONFIG_CHANGE_MSG);
const CHANGED_ASKING = message(rig.CONFIG_CHANGE_MSG, '', NEED_REPLY);
const DONE = message(rig.CONFIG_CHANGE_MSG, u64(0n), REPLY);
const FAILED = message(rig.CONFIG_CHANGE_MSG, u64(1n), REPLY);
const QUIET = { guest: [], frontend: [] };

const warnings = (r: Rig): string[] =>
  r.log.filter(({ level }) => level === 'warn').map(({ text }) => text);

test('requests of the guest go to the channel, replies come back', (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.SET_BACKEND_REQ_FD, '', NEED_REPLY), 1);
  t.deepEqual(r.traffic(), {
    guest: [message(rig.SET_BACKEND_REQ_FD, '', NEED_REPLY)],
    frontend: [],
  });
  const { channel } = r;
  t.true(channel.started);
  r.guest(CHANGED);
  r.guest(CHANGED_ASKING);
  t.deepEqual(channel.sent, [CHANGED, CHANGED_ASKING]);
  channel.says(DONE);
  // The acknowledgement of SET_BACKEND_REQ_FD is the main channel's.
  r.guest(message(rig.SET_BACKEND_REQ_FD, u64(0n), REPLY));
  t.deepEqual(r.traffic(), {
    guest: [DONE],
    frontend: [message(rig.SET_BACKEND_REQ_FD, u64(0n), REPLY)],
  });
  t.is(r.closedWith, undefined);
  t.is(r.leaks(), 0);
});

test('before there is a channel, requests of the guest are discarded with one line', (t) => {
  const r = new Rig().negotiate();
  for (let count = 0; count < 100; count++) r.guest(CHANGED_ASKING);
  t.deepEqual(r.traffic(), QUIET);
  t.deepEqual(warnings(r), ['back-end request of the guest discarded: no channel']);
  r.session.close('');
  t.like(r.log.at(-1), { text: 'back-end requests were discarded', fields: { count: 100 } });
});

test('in-band notifications pass both ways', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  r.frontend(message(rig.SET_VRING_KICK, u64(0x101n)));
  r.frontend(message(rig.VRING_KICK, state(1, 0)));
  r.frontend(message(rig.VRING_KICK, state(8, 0), NEED_REPLY));
  t.deepEqual(r.traffic(), {
    guest: [message(rig.SET_VRING_KICK, u64(0x101n)), message(rig.VRING_KICK, state(1, 0))],
    frontend: [message(rig.VRING_KICK, u64(1n), REPLY)],
  });
  r.guest(message(rig.VRING_CALL, state(1, 0)));
  r.guest(message(rig.VRING_ERR, state(0, 0), NEED_REPLY));
  r.guest(message(rig.VRING_CALL, state(8, 0), NEED_REPLY));
  t.deepEqual(channel.sent, [
    message(rig.VRING_CALL, state(1, 0)),
    message(rig.VRING_ERR, state(0, 0), NEED_REPLY),
  ]);
  channel.says(message(rig.VRING_ERR, u64(0n), REPLY));
  t.deepEqual(r.traffic().guest, [
    message(rig.VRING_ERR, u64(0n), REPLY),
    message(rig.VRING_CALL, u64(1n), REPLY),
  ]);
});

test('requests of the guest that need an fd are refused', (t) => {
  const lookup = message(rig.SHARED_OBJECT_LOOKUP, '11'.repeat(16));
  const cases = [
    [message(rig.VRING_HOST_NOTIFIER_MSG, u64(0n).repeat(3), NEED_REPLY), rig.u64(1n)],
    [message(rig.VRING_HOST_NOTIFIER_MSG, u64(0n).repeat(3)), undefined],
    [message(6, '11'.repeat(16), NEED_REPLY), u64(1n)],
    [message(7, '11'.repeat(16), NEED_REPLY), u64(1n)],
    // It has a reply of its own, which the guest waits for in any case.
    [lookup, u64(1n)],
    // Not shared: the feature is masked, so nobody accepted it.
    [message(rig.SHMEM_MAP, '00'.repeat(40), NEED_REPLY), u64(1n)],
    [message(rig.SHMEM_UNMAP, '00'.repeat(40), NEED_REPLY), u64(1n)],
    [message(0, '', NEED_REPLY), u64(1n)],
    [message(rig.CONFIG_CHANGE_MSG, '00', NEED_REPLY), u64(1n)],
    [message(rig.VRING_CALL, '00000000', NEED_REPLY), u64(1n)],
  ] as const;
  for (const [request, answer] of cases) {
    const r = new Rig().negotiate();
    const channel = r.openChannel();
    r.guest(request);
    const id = Buffer.from(request, 'hex').readUInt32LE(0);
    const expected = answer === undefined ? [] : [message(id, answer, REPLY)];
    t.deepEqual(r.traffic(), { guest: expected, frontend: [] }, request);
    t.deepEqual(channel.sent, [], request);
    t.deepEqual(warnings(r), ['back-end request of the guest refused']);
    t.is(r.closedWith, undefined);
  }
});

test('a request of the guest needs what the frontend has accepted', (t) => {
  // BACKEND_REQ and REPLY_ACK only.
  const r = new Rig().negotiate(0x28n);
  const channel = r.openChannel();
  for (const request of [
    message(rig.CONFIG_CHANGE_MSG, '', NEED_REPLY),
    message(rig.VRING_CALL, state(0, 0), NEED_REPLY),
    message(rig.BACKEND_IOTLB_MSG, rig.iotlb(0n, 1n, 0n, 1), NEED_REPLY),
  ]) {
    r.guest(request);
  }
  t.deepEqual(channel.sent, []);
  t.deepEqual(
    r.traffic().guest,
    [rig.CONFIG_CHANGE_MSG, rig.VRING_CALL, rig.BACKEND_IOTLB_MSG].map((id) =>
      message(id, u64(1n), REPLY),
    ),
  );
});

test('without REPLY_ACK nothing is acknowledged on the channel either', (t) => {
  const r = new Rig().negotiate(0x220n);
  r.frontend(message(rig.SET_BACKEND_REQ_FD), 1);
  r.forget();
  r.guest(CHANGED_ASKING);
  r.guest(message(0, '', NEED_REPLY));
  t.deepEqual(r.channel.sent, [CHANGED]);
  t.deepEqual(r.traffic(), QUIET);
});

test('a failure waits for the replies before it', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  r.guest(CHANGED_ASKING);
  r.guest(message(0, '', NEED_REPLY));
  t.deepEqual(r.traffic(), QUIET);
  channel.says(DONE);
  t.deepEqual(r.traffic().guest, [DONE, message(0, u64(1n), REPLY)]);
});

for (const [what, hex] of [
  ['a request', CHANGED],
  ['a reply to another request', message(rig.VRING_CALL, u64(0n), REPLY)],
  ['a reply of 4 bytes', message(rig.CONFIG_CHANGE_MSG, '00000000', REPLY)],
  ['version 2', '020000000600000000000000'],
] as const) {
  test(`a channel on which ${what} comes is dropped, and only the channel`, (t) => {
    const r = new Rig().negotiate();
    const channel = r.openChannel();
    r.guest(CHANGED_ASKING);
    channel.says(hex, r.fds.make(2));
    t.true(channel.closed);
    t.deepEqual(r.traffic(), { guest: [FAILED], frontend: [] }, 'nobody else will answer');
    t.true(warnings(r).includes('back-end channel dropped'));
    t.is(r.fds.open.size, 0);
    // What comes now is discarded; the main channel goes on.
    r.guest(CHANGED_ASKING);
    channel.says(DONE, r.fds.make(1));
    r.frontend(message(rig.GET_STATUS));
    t.deepEqual(r.traffic(), { guest: [message(rig.GET_STATUS)], frontend: [] });
    t.is(r.fds.open.size, 0);
    t.is(r.closedWith, undefined);
  });
}

test('a frontend that closes the channel keeps its connection, and may open another', (t) => {
  const r = new Rig().negotiate();
  const first = r.openChannel();
  r.guest(CHANGED_ASKING);
  first.handlers?.closed('EOF', 'the peer closed');
  t.deepEqual(r.traffic(), { guest: [FAILED], frontend: [] });
  const second = r.openChannel();
  r.guest(CHANGED);
  t.deepEqual(second.sent, [CHANGED]);
  t.is(r.leaks(), 0);
  t.true(second.closed);
});

test('a second channel replaces the first', (t) => {
  const r = new Rig().negotiate();
  const first = r.openChannel();
  r.guest(CHANGED_ASKING);
  r.frontend(message(rig.SET_BACKEND_REQ_FD), 1);
  t.true(first.closed);
  t.deepEqual(r.traffic().guest, [FAILED, message(rig.SET_BACKEND_REQ_FD)]);
  // The end of the first comes late, and ends nothing.
  first.handlers?.closed('CLOSED', '');
  first.says(DONE);
  r.guest(CHANGED_ASKING);
  r.channel.says(DONE);
  t.deepEqual(r.traffic().guest, [DONE]);
  t.is(r.leaks(), 0);
});

test('an fd that is no stream socket is refused, and closed', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  r.fds.adoptable = false;
  r.frontend(message(rig.SET_BACKEND_REQ_FD, '', NEED_REPLY), 1);
  t.deepEqual(r.traffic(), {
    guest: [],
    frontend: [message(rig.SET_BACKEND_REQ_FD, u64(1n), REPLY)],
  });
  t.like(r.log.at(-1), { text: 'request refused', fields: { code: 'BAD_CHANNEL' } });
  t.false(channel.closed, 'a refused request changes nothing');
  r.frontend(message(rig.SET_BACKEND_REQ_FD), 1);
  t.is(r.closedWith, 'BAD_CHANNEL');
  t.is(r.fds.open.size, 0);
});

test('a frontend that does not read the channel loses it, and txq never waits', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  channel.queued = 64 * 1024;
  t.true(r.guest(CHANGED_ASKING));
  t.false(channel.closed);
  channel.queued++;
  t.true(r.guest(CHANGED_ASKING));
  t.true(channel.closed);
  t.deepEqual(r.traffic(), { guest: [FAILED, FAILED], frontend: [] });
  t.true(r.guest(CHANGED_ASKING));
  t.deepEqual(warnings(r), [
    'back-end channel dropped',
    'back-end request of the guest discarded: no channel',
  ]);
});

test('a frontend that owes too many replies loses the channel', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  for (let count = 0; count < 64; count++) r.guest(CHANGED_ASKING);
  t.deepEqual(r.traffic(), QUIET);
  // What wants no reply may still pass.
  r.guest(CHANGED);
  t.is(channel.sent.length, 65);
  r.guest(CHANGED_ASKING);
  t.true(channel.closed);
  t.deepEqual(r.traffic().guest, Array<string>(65).fill(FAILED));
});

test('replies wait for rxq buffers, and the channel is not read meanwhile', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  r.guest(CHANGED_ASKING);
  r.guest(CHANGED_ASKING);
  r.backend.room = 0;
  channel.says(DONE);
  t.true(channel.paused);
  channel.says(FAILED);
  // The main channel does not overtake it.
  r.frontend(message(rig.GET_STATUS));
  t.deepEqual(r.traffic(), QUIET);
  t.true(r.socket.paused);
  r.backend.room = 1;
  r.session.roomInRxq();
  t.deepEqual(r.traffic().guest, [DONE]);
  t.true(channel.paused);
  r.backend.room = 10;
  r.session.roomInRxq();
  t.deepEqual(r.traffic().guest, [FAILED, message(rig.GET_STATUS)]);
  t.false(channel.paused);
  t.false(r.socket.paused);
});

test('a reply waits while a request of the frontend waits for a buffer', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  r.guest(CHANGED_ASKING);
  r.backend.room = 0;
  r.frontend(message(rig.GET_STATUS));
  r.backend.room = 2;
  channel.says(DONE);
  t.deepEqual(r.traffic(), QUIET, 'a success would call off the kick that the request waits for');
  r.session.roomInRxq();
  t.deepEqual(r.traffic().guest, [DONE, message(rig.GET_STATUS)]);
});

test('answers to a guest that takes none are limited', (t) => {
  const r = new Rig().negotiate();
  r.openChannel();
  r.backend.room = 0;
  for (let count = 0; count < 1000; count++) t.true(r.guest(message(0, '', NEED_REPLY)));
  r.backend.room = Infinity;
  r.session.roomInRxq();
  t.is(r.traffic().guest.length, 64);
});

test('an error of the device on a reply ends the session, not the process', (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  r.guest(CHANGED_ASKING);
  r.backend.error = new VvuError('RXQ_BUFFER_TOO_SMALL', 'device', 'too small');
  channel.says(DONE);
  t.is(r.closedWith, 'RXQ_BUFFER_TOO_SMALL');
  t.true(channel.closed);
  t.is(r.fds.open.size, 0);
});

test('the channel goes with the connection', async (t) => {
  const r = new Rig().negotiate();
  const channel = r.openChannel();
  r.guest(CHANGED_ASKING);
  r.session.close('the backend is down');
  await settle();
  t.true(channel.closed);
  t.deepEqual(r.traffic(), QUIET);
  t.is(r.fds.open.size, 0);
});

test('the channel speaks the byte order of the host', (t) => {
  const r = new Rig({ order: 'BE' });
  r.frontend('000000010000000100000000');
  r.guest(message(rig.GET_FEATURES, u64(rig.ALL_FEATURES), REPLY));
  r.frontend('0000000f0000000100000000');
  r.guest(message(rig.GET_PROTOCOL_FEATURES, u64(rig.ALL_PROTOCOL_FEATURES), REPLY));
  // BACKEND_REQ, REPLY_ACK and INBAND_NOTIFICATIONS.
  r.frontend('0000001000000001000000080000000000004028');
  r.frontend('000000150000000100000000', 1);
  r.forget();
  r.guest(message(rig.VRING_CALL, state(5, 0), NEED_REPLY));
  t.deepEqual(r.channel.sent, ['0000000400000009000000080000000500000000']);
  r.channel.says('0000000400000005000000080000000000000000');
  t.deepEqual(r.traffic().guest, [message(rig.VRING_CALL, u64(0n), REPLY)]);
});
