import test, { type ExecutionContext } from 'ava';
import { until } from '../support/until.js';
import { BridgeRig, type FakeSocket } from './bridge-rig.js';

/* Messages by hand, as in bridge.test.ts. */
const SET_PROTOCOL_FEATURES = '10000000 01000000 08000000 2802000000000000';
const SET_BACKEND_REQ_FD = '15000000 01000000 00000000';
const CHANGED = '02000000 01000000 00000000';
const CHANGED_ASKING = '02000000 09000000 00000000';
const reply = (request: string, value: string) => `${request} 05000000 08000000 ${value}`;
const OK = reply('02000000', '0000000000000000');
const NO = reply('02000000', '0100000000000000');
/** VRING_CALL of ring 1, asking. */
const CALL = '04000000 09000000 08000000 01000000 00000000';
const plain = (hex: string) => hex.replaceAll(' ', '');

/** A frontend has opened the channel, with REPLY_ACK unless `features` says otherwise. */
function start(
  t: ExecutionContext,
  features = SET_PROTOCOL_FEATURES,
): { rig: BridgeRig; backend: FakeSocket; channel: FakeSocket } {
  const rig = new BridgeRig();
  t.teardown(() => {
    rig.close();
    if (rig.fds.open.size > 0) throw new Error(`fds left: ${[...rig.fds.open].join(' ')}`);
  });
  const backend = rig.connect();
  rig.request(features);
  rig.request(SET_BACKEND_REQ_FD);
  return { rig, backend, channel: rig.channels[0]! };
}

test('the backend gets one end of a socket pair, and its requests pass with their replies', (t) => {
  const { rig, backend, channel } = start(t);
  t.is(backend.sent.at(-1), plain(SET_BACKEND_REQ_FD));
  const [fd] = backend.fds.at(-1)!;
  t.false(rig.fds.open.has(fd!), 'the bridge keeps no duplicate of it');
  t.is(rig.fds.open.size, 1);
  channel.says(CHANGED);
  channel.says(CALL);
  t.deepEqual(rig.replies(), [CHANGED, CALL].map(plain));
  rig.request(reply('04000000', '0000000000000000'));
  t.deepEqual(channel.sent, [plain(reply('04000000', '0000000000000000'))]);
  t.deepEqual(backend.sent.length, 2, 'replies are no requests');
  t.false(backend.closed);
});

test('replies that nobody waits for are dropped, with a channel and without', (t) => {
  const { rig, backend, channel } = start(t);
  rig.request(OK);
  channel.says(CALL);
  rig.request(OK);
  t.deepEqual(channel.sent, []);
  t.false(backend.closed);
  const bare = new BridgeRig();
  const other = bare.connect();
  bare.request(OK);
  t.false(other.closed);
  bare.close();
});

test('what carries fds is refused in its turn, and the fds are closed', (t) => {
  const { rig, channel } = start(t);
  channel.says(CALL);
  // VRING_HOST_NOTIFIER_MSG with an fd, asking; then a request that does not ask.
  channel.says(`03000000 09000000 18000000 ${'00'.repeat(24)}`, rig.fds.make(1));
  channel.says(CHANGED, rig.fds.make(2));
  t.deepEqual(rig.replies(), [plain(CALL)]);
  t.deepEqual(channel.sent, []);
  rig.request(reply('04000000', '0000000000000000'));
  const answers = [reply('04000000', '0000000000000000'), reply('03000000', '0100000000000000')];
  t.deepEqual(channel.sent, answers.map(plain));
  t.is(rig.fds.open.size, 1);
  const refused = rig.warnings().filter((text) => text === 'back-end request refused');
  t.is(refused.length, 2);
});

test('requests that are unknown or broken are refused', (t) => {
  const { rig, channel } = start(t);
  channel.says('63000000 09000000 00000000');
  channel.says('02000000 09000000 01000000 00');
  t.deepEqual(rig.replies(), []);
  t.deepEqual(channel.sent, [reply('63000000', '0100000000000000'), NO].map(plain));
});

test('without REPLY_ACK nothing is acknowledged', (t) => {
  const { rig, channel } = start(t, '10000000 01000000 08000000 2002000000000000');
  channel.says(CHANGED_ASKING);
  channel.says('63000000 09000000 00000000');
  t.deepEqual(rig.replies(), [plain(CHANGED)]);
  t.deepEqual(channel.sent, []);
});

for (const [what, hex] of [
  ['a reply', OK],
  ['version 2', '02000000 02000000 00000000'],
] as const) {
  test(`a backend that says ${what} on the channel loses the channel, not the connection`, (t) => {
    const { rig, backend, channel } = start(t);
    channel.says(hex);
    t.true(channel.closed);
    t.deepEqual(rig.warnings(), ['back-end channel dropped']);
    t.false(backend.closed);
    channel.says(CHANGED, rig.fds.make(1));
    t.deepEqual(rig.replies(), []);
    t.is(rig.fds.open.size, 0);
  });
}

test('a backend that reads no answers loses the channel', (t) => {
  const { rig, channel } = start(t);
  channel.queued = 65537;
  channel.says('63000000 09000000 00000000');
  t.true(channel.closed);
  t.is(rig.fds.open.size, 0);
});

test('a frontend that owes too many replies costs the backend its channel', (t) => {
  const { channel } = start(t);
  for (let count = 0; count < 64; count++) channel.says(CHANGED_ASKING);
  t.false(channel.closed);
  channel.says(CHANGED_ASKING);
  t.true(channel.closed);
});

test('a second channel replaces the first, and both go with the connection', (t) => {
  const { rig, channel } = start(t);
  rig.request(SET_BACKEND_REQ_FD);
  t.true(channel.closed);
  channel.handlers?.closed('CLOSED', '');
  const second = rig.channels[1]!;
  second.says(CHANGED);
  t.deepEqual(rig.replies(), [plain(CHANGED)]);
  rig.device.disconnect();
  rig.driver.poll();
  t.true(second.closed);
  t.is(rig.fds.open.size, 0);
});

test('requests wait for buffers of the driver, unread ones in the socket', async (t) => {
  const { rig, channel } = start(t);
  // The driver has 64 buffers, which the device does not give back.
  for (let count = 0; count < 66; count++) channel.says(CHANGED);
  t.true(channel.paused);
  t.is(rig.replies().length, 64);
  await until(() => !channel.paused, 'the pump');
  t.deepEqual(rig.replies(), [CHANGED, CHANGED].map(plain));
});
