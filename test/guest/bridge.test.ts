import test, { type ExecutionContext } from 'ava';
import { until } from '../support/until.js';
import { native } from '../../src/native.js';
import { BridgeRig } from './bridge-rig.js';

/*
 * Messages by hand from the specification: le32 request, le32 flags (1 version, 4 reply, 8
 * need_reply), le32 size, payload.
 */
const GET_FEATURES = '01000000 01000000 00000000';
const features = (value: string) => `01000000 05000000 08000000 ${value}`;
const FEATURES = features('0080005009000000');
const GET_QUEUE_NUM = '11000000 01000000 00000000';
const QUEUE_NUM = '11000000 05000000 08000000 0200000000000000';
/** Two regions: guest address, size, user address, mmap_offset. */
const memTable = (flags: string, offset: string) =>
  `05000000 ${flags} 48000000 02000000 00000000` +
  '0000000000000000 0010000000000000 0000a00000000000 0000000000000000' +
  `0000000100000000 0020000000000000 0000b00000000000 ${offset}`;
const SET_KICK = '0c000000 01000000 08000000 0100000000000000';
const SET_CALL = '0d000000 01000000 08000000 0100000000000000';
const SET_ERR = '0e000000 01000000 08000000 0000000000000000';
const NO_CALL = '0d000000 01000000 08000000 0101000000000000';
/** A log of 0x1000 bytes at 0x3000 of the window, and the reply that it always has. */
const SET_LOG_BASE = '06000000 01000000 10000000 0010000000000000 0030000000000000';
const LOG_REPLY = '06000000 05000000 08000000 0000000000000000';
/** Inflight descriptions: mmap_size, mmap_offset, le16 num_queues, queue_size, padding. */
const QUEUES = '0200 8000 00000000';
const GET_INFLIGHT = `1f000000 01000000 18000000 0030000000000000 0000020000000000 ${QUEUES}`;
const inflight = (request: string, flags: string, size: string, offset: string) =>
  `${request} ${flags} 18000000 ${size} ${offset} ${QUEUES}`;
const SET_LOG_FD = '07000000 01000000 00000000';
const ack = (request: string, value: string) => `${request} 05000000 08000000 ${value}`;

const eventually = (condition: () => boolean) => until(condition, 'the pump');
const plain = (hex: string) => hex.replaceAll(' ', '');

function start(
  t: ExecutionContext,
  options?: ConstructorParameters<typeof BridgeRig>[0],
): BridgeRig {
  const rig = new BridgeRig(options);
  t.teardown(() => {
    rig.close();
    // Assertions are over here; an exception fails the test all the same.
    if (rig.fds.open.size > 0) throw new Error(`fds left: ${[...rig.fds.open].join(' ')}`);
  });
  return rig;
}

test('the backend is up for the device exactly while there is a connection to one', (t) => {
  const rig = start(t);
  t.is(rig.device.linkStatus, 0);
  rig.reachable = false;
  rig.clock.advance(60_000);
  t.is(rig.device.linkStatus, 0);
  rig.reachable = true;
  rig.clock.advance(1000);
  t.is(rig.device.linkStatus, 1);
  rig.backend.dies();
  t.is(rig.device.linkStatus, 0);
  rig.clock.advance(1000);
  t.is(rig.device.linkStatus, 1);
  t.is(rig.sockets.length, 2);
  const waits = rig.log.filter(({ text }) => text === 'waiting for the backend');
  t.is(waits.length, 1, 'one line per absence');
});

test('requests and replies pass in order', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  rig.request(GET_FEATURES);
  rig.request(GET_QUEUE_NUM);
  t.deepEqual(backend.sent, [GET_FEATURES, GET_QUEUE_NUM].map(plain));
  backend.says(FEATURES);
  backend.says(QUEUE_NUM);
  t.deepEqual(rig.replies(), [FEATURES, QUEUE_NUM].map(plain));
});

test('memory regions become file offsets of the window', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  // The second region lies 0x3000 behind the first one's end at 0x1000: at 0x4000.
  rig.request(memTable('09000000', '0030000000000000'));
  t.is(
    backend.sent[0],
    plain(
      '05000000 09000000 48000000 02000000 00000000' +
        '0000000000000000 0010000000000000 0000a00000000000 0000200000000000' +
        '0000000100000000 0020000000000000 0000b00000000000 0040200000000000',
    ),
  );
  t.deepEqual(backend.fds[0], [50, 50]);
  // ADD_MEM_REG: the offset is the place. REM_MEM_REG carries neither offset nor fd.
  const region = (offset: string) =>
    `28000000 0000000000000000 0000000200000000 0010000000000000 0000c00000000000 ${offset}`;
  rig.request(`25000000 01000000 ${region('0070000000000000')}`);
  rig.request(`26000000 01000000 ${region('0070000000000000')}`);
  t.is(backend.sent[1], plain(`25000000 01000000 ${region('0070200000000000')}`));
  t.is(backend.sent[2], plain(`26000000 01000000 ${region('0000000000000000')}`));
  t.deepEqual(backend.fds.slice(1), [[50], []]);
});

test('a region that cannot be mapped is refused in its turn', (t) => {
  const rig = start(t);
  rig.device.windowFile = () => undefined;
  const backend = rig.connect();
  rig.request(GET_FEATURES);
  rig.request(memTable('09000000', '0000000000000000'));
  rig.request(GET_QUEUE_NUM);
  t.deepEqual(backend.sent, [GET_FEATURES, GET_QUEUE_NUM].map(plain));
  t.deepEqual(rig.replies(), [], 'the refusal waits behind the reply that is owed');
  backend.says(FEATURES);
  backend.says(QUEUE_NUM);
  const refusal = ack('05000000', '0100000000000000');
  t.deepEqual(rig.replies(), [FEATURES, refusal, QUEUE_NUM].map(plain));
  t.false(backend.closed);
});

test('a region that cannot be mapped ends the connection where nobody asked for an answer', (t) => {
  const rig = start(t);
  rig.device.windowFile = () => undefined;
  const backend = rig.connect();
  rig.request(memTable('01000000', '0000000000000000'));
  t.true(backend.closed);
  t.is(rig.device.linkStatus, 0);
  t.deepEqual(rig.warnings(), ['frontend dropped']);
});

test('the log becomes a file and an offset, and its reply passes', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  rig.request(SET_LOG_BASE);
  const offset = '0030200000000000';
  t.deepEqual(backend.sent, [plain(SET_LOG_BASE).slice(0, -16) + offset]);
  t.deepEqual(backend.fds, [[50]]);
  backend.says(LOG_REPLY);
  t.deepEqual(rig.replies(), [plain(LOG_REPLY)]);
});

test('a backend goes on with the buffer of the device, in which its own is copied', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  rig.request(GET_INFLIGHT);
  const zero = '0000000000000000';
  t.deepEqual(backend.sent, [plain(inflight('1f000000', '01000000', zero, zero))]);
  // The backend's own buffer starts with what it needs; the device's is at 0x20000 of the window.
  const own = native.createMemfd('inflight', 0x2000);
  const memory = native.map(own, { offset: 0, length: 0x2000, writable: true });
  memory.write(0x80, Buffer.from('initial'));
  memory.release();
  const duplicate = native.dupFd(own);
  t.teardown(() => native.closeFd(own));
  rig.fds.open.add(duplicate);
  backend.says(inflight('1f000000', '05000000', '0011000000000000', zero), [duplicate]);
  native.closeFd(duplicate);
  t.is(rig.device.window.bytes.toString('latin1', 0x20080, 0x20087), 'initial');
  t.is(
    backend.sent[1],
    plain(inflight('20000000', '01000000', '0011000000000000', '0000220000000000')),
  );
  t.deepEqual(backend.fds[1], [50]);
  t.deepEqual(rig.replies(), [plain(inflight('1f000000', '05000000', '0011000000000000', zero))]);
});

test('the buffer that the frontend brings back becomes a file and an offset', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  rig.request(inflight('20000000', '01000000', '0011000000000000', '0000020000000000'));
  t.deepEqual(backend.sent, [
    plain(inflight('20000000', '01000000', '0011000000000000', '0000220000000000')),
  ]);
  t.deepEqual(backend.fds, [[50]]);
});

const NO_BUFFER = `1f000000 05000000 18000000 ${'00'.repeat(24)}`;

test('a buffer that the backend cannot map is none: the frontend goes on without', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  rig.device.windowFile = () => undefined;
  rig.request(GET_INFLIGHT);
  t.deepEqual(backend.sent, []);
  t.deepEqual(rig.replies(), [plain(NO_BUFFER)]);
  t.deepEqual(rig.warnings(), ['request refused']);
  t.false(backend.closed);
});

test('a backend without a buffer has nothing to set', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  rig.request(GET_INFLIGHT);
  backend.says(NO_BUFFER);
  t.deepEqual(rig.replies(), [plain(NO_BUFFER)]);
  t.is(backend.sent.length, 1);
});

test('a backend with a larger buffer than any layout needs loses its connection', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  rig.request(GET_INFLIGHT);
  const [fd = -1] = rig.fds.make(1);
  backend.says(inflight('1f000000', '05000000', '0130000000000000', '0000000000000000'), [fd]);
  t.true(backend.closed);
  t.is(rig.device.linkStatus, 0);
});

test('a log that cannot be mapped ends the connection, since nobody would see the error', (t) => {
  const rig = start(t);
  rig.device.windowFile = () => undefined;
  const backend = rig.connect();
  rig.request(SET_LOG_BASE);
  t.true(backend.closed);
  t.deepEqual(rig.warnings(), ['frontend dropped']);
  t.is(rig.log.filter(({ fields }) => JSON.stringify(fields).includes('LOG_NOT_MAPPED')).length, 1);
});

test('kick eventfds are those of the vectors, calls and errs ring doorbells', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  for (const message of [SET_KICK, SET_CALL, SET_ERR, SET_LOG_FD]) rig.request(message);
  t.deepEqual(backend.sent, [SET_KICK, SET_CALL, SET_ERR, SET_LOG_FD].map(plain));
  t.deepEqual(backend.fds[0], [1002], "vector 1 + 1's eventfd");
  t.is(rig.device.kickVectors.get(1), 2);
  const bound = [...rig.device.bindings];
  t.deepEqual(
    bound.map(({ eventfd }) => eventfd),
    [backend.fds[1]![0], backend.fds[3]![0]],
    'the fake has doorbells 0 .. 4: no err doorbells, whose eventfd nobody hears',
  );
  bound.forEach(({ ring }) => ring());
  t.deepEqual(rig.device.rung, [1, 4], 'call of vring 1, log');
  rig.request(SET_CALL);
  t.deepEqual(backend.fds[4], backend.fds[1], 'the same eventfd again');
  rig.request(NO_CALL);
  t.deepEqual(backend.fds[5], []);
  t.is(rig.device.bindings.size, 1);
});

test('nothing of a frontend that left crosses to the next one', (t) => {
  const rig = start(t);
  const first = rig.connect();
  rig.request(SET_KICK);
  rig.request(SET_CALL);
  rig.request(GET_FEATURES);
  rig.device.disconnect();
  rig.driver.poll();
  t.true(first.closed);
  t.deepEqual(rig.drained, [1002], 'kicks that nobody took are gone');
  t.is(rig.device.bindings.size, 0);
  t.is(rig.fds.open.size, 0);
  t.is(rig.device.linkStatus, 0, 'not up before there is a new connection');
  const second = rig.connect();
  t.not(second, first);
  first.says(FEATURES);
  t.deepEqual(rig.replies(), [], 'a late answer of the old connection');
  rig.request(GET_FEATURES);
  second.says(features('0000000001000000'));
  t.deepEqual(rig.replies(), [plain(features('0000000001000000'))]);
  first.dies();
  t.false(second.closed);
});

test('a backend that dies disconnects the frontend, and the next one starts afresh', (t) => {
  const rig = start(t);
  const first = rig.connect();
  rig.request(SET_CALL);
  rig.request(GET_FEATURES);
  first.dies();
  t.is(rig.device.linkStatus, 0);
  t.false(rig.driver.connected);
  t.is(rig.fds.open.size, 0);
  const second = rig.connect();
  rig.request(GET_QUEUE_NUM);
  t.deepEqual(second.sent, [plain(GET_QUEUE_NUM)]);
  second.says(QUEUE_NUM);
  t.deepEqual(rig.replies(), [plain(QUEUE_NUM)]);
});

const BAD_REPLIES: readonly [string, string, number][] = [
  ['an answer to nothing', QUEUE_NUM, 0],
  ['a payload of the wrong size', '01000000 05000000 04000000 00000000', 0],
  ['a request where a reply is due', GET_FEATURES, 0],
  ['another version', '01000000 06000000 08000000 0000000000000000', 0],
  ['a reply with fds', FEATURES, 2],
];
for (const [what, message, fdCount] of BAD_REPLIES) {
  test(`bad reply: ${what}`, (t) => {
    const rig = start(t);
    const backend = rig.connect();
    rig.request(GET_FEATURES);
    backend.says(message, rig.fds.make(fdCount));
    t.true(backend.closed);
    t.deepEqual(rig.replies(), []);
    t.is(rig.fds.open.size, 0);
    t.is(rig.device.linkStatus, 0);
    t.true(rig.log.some(({ fields }) => 'code' in fields && fields.code === 'BAD_REPLY'));
    t.is(rig.connect().closed, false, 'the next connection is served');
  });
}

test('what cannot be bridged is refused', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  // GPU_SET_SOCKET with need_reply, then without.
  rig.request('21000000 09000000 00000000');
  t.deepEqual(rig.replies(), [plain(ack('21000000', '0100000000000000'))]);
  rig.request('21000000 01000000 00000000');
  t.true(backend.closed);
  t.deepEqual(backend.sent, []);
});

test('replies wait for buffers of the driver, unread ones in the socket', async (t) => {
  const rig = start(t);
  const backend = rig.connect();
  // The driver has 64 buffers for replies, which the device does not give back.
  for (let i = 0; i < 66; i++) rig.request(GET_FEATURES);
  for (let i = 0; i < 64; i++) backend.says(FEATURES);
  t.false(backend.paused);
  // What was read before the pause took effect.
  backend.says(FEATURES);
  backend.says(features('0000000001000000'));
  t.true(backend.paused);
  t.is(rig.replies().length, 64);
  await eventually(() => !backend.paused);
  t.deepEqual(rig.replies(), [FEATURES, features('0000000001000000')].map(plain));
});

test('a backend that reads nothing stops the taking of requests, not the look at the status', async (t) => {
  const rig = start(t);
  const backend = rig.connect();
  backend.full = true;
  rig.request(GET_FEATURES);
  for (let i = 0; i < 5; i++) rig.device.toDriver(Buffer.from(plain(GET_QUEUE_NUM), 'hex'));
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.is(backend.sent.length, 1);
  backend.full = false;
  backend.handlers?.writable?.();
  await eventually(() => backend.sent.length === 6);
  backend.full = true;
  rig.request(GET_QUEUE_NUM);
  rig.device.disconnect();
  await eventually(() => backend.closed);
  t.is(rig.device.linkStatus, 0);
});

test('without MSI-X a kick is looked for in the ISR register', async (t) => {
  const rig = start(t, { vectors: 0 });
  const backend = rig.connect();
  rig.request(SET_KICK);
  const [fd] = backend.fds[0]!;
  t.true(rig.fds.open.has(fd!));
  rig.device.isr = 4;
  await eventually(() => rig.signalled.length > 0);
  t.deepEqual(rig.signalled, [fd]);
  backend.dies();
  t.false(rig.fds.open.has(fd!));
});

test('a device that throws is reported once, and everything is let go', (t) => {
  const rig = start(t);
  const backend = rig.connect();
  rig.request(SET_CALL);
  rig.device.barWrite = () => {
    throw new Error('no device');
  };
  backend.dies();
  t.deepEqual(rig.lost, ['UNKNOWN no device']);
  t.is(rig.fds.open.size, 0);
  rig.clock.advance(60_000);
  t.is(rig.sockets.length, 1, 'no further backend is asked for');
});

test('server mode: the backend that waits is taken, a second one refused', (t) => {
  const rig = start(t, { mode: 'server' });
  rig.endpoint.open();
  rig.clock.advance(10);
  t.is(rig.device.linkStatus, 0);
  rig.arrive();
  t.is(rig.device.linkStatus, 1);
  rig.arrive();
  const [first, second] = rig.sockets;
  t.false(second!.closed);
  rig.clock.advance(1000);
  t.true(second!.closed);
  t.false(first!.closed);
  rig.arrive();
  first!.dies();
  rig.clock.advance(1000);
  t.false(rig.backend.closed, 'a backend that came back before its end was seen');
  t.is(rig.device.linkStatus, 1);
});
