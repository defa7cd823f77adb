import test, { type ExecutionContext } from 'ava';
import { FrontendConnection } from '../../src/frontend/connection.js';
import { native, type NativeSocket } from '../../src/native.js';
import { frontendMessages as messages, vhostUserFraming } from '../../src/vhost-user/index.js';
import { openFds } from '../guest/rig.js';

type Answer = (request: Buffer, socket: NativeSocket) => void;

/** A connection whose backend answers with bytes that the test wrote by hand. */
function open(
  t: ExecutionContext,
  answer: Answer,
  timeoutMs = 5000,
): { connection: FrontendConnection; requests: Buffer[]; closed: string[] } {
  const [ours, theirs] = native.socketPair();
  const requests: Buffer[] = [];
  const closed: string[] = [];
  theirs.start(vhostUserFraming, {
    message: (bytes, fds) => {
      for (const fd of fds) native.closeFd(fd);
      requests.push(bytes);
      answer(bytes, theirs);
    },
    closed: () => undefined,
  });
  const onClosed = (code: string): void => void closed.push(code);
  const connection = new FrontendConnection(ours, { native, timeoutMs, onClosed });
  t.teardown(() => {
    connection.close();
    theirs.close();
  });
  return { connection, requests, closed };
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const respond =
  (text: string): Answer =>
  (_request, socket) =>
    void socket.send(hex(text));

test('a request and its reply, byte by byte', async (t) => {
  const { connection, requests } = open(t, respond('01000000 05000000 08000000 0000008001000000'));
  t.is(await connection.get(messages.GET_FEATURES, undefined), 0x1_8000_0000n);
  t.deepEqual(requests, [hex('01000000 01000000 00000000')]);
});

test('without REPLY_ACK nothing is waited for', async (t) => {
  const { connection, requests } = open(t, respond('0b000000 05000000 08000000 0100000005000000'));
  await connection.set(messages.SET_VRING_NUM, { index: 1, num: 256 });
  t.deepEqual(await connection.get(messages.GET_VRING_BASE, { index: 1, num: 0 }), {
    index: 1,
    num: 5,
  });
  t.deepEqual(requests[0], hex('08000000 01000000 08000000 0100000000010000'));
});

test('acknowledgements are asked for and understood', async (t) => {
  const results = ['0000000000000000', '0100000000000000'];
  const { connection, requests } = open(t, (_request, socket) => {
    socket.send(hex(`08000000 05000000 08000000 ${results.shift() ?? ''}`));
  });
  connection.acknowledged = true;
  await connection.set(messages.SET_VRING_NUM, { index: 0, num: 4 });
  t.deepEqual(requests[0]?.subarray(4, 8), hex('09000000'));
  await t.throwsAsync(connection.set(messages.SET_VRING_NUM, { index: 0, num: 4 }), {
    code: 'REFUSED',
  });
  t.false(connection.closed, 'the connection goes on');
});

const bad: [string, string][] = [
  ['another request', '02000000 05000000 08000000 0000000000000000'],
  ['no reply flag', '01000000 01000000 08000000 0000000000000000'],
  ['another version', '01000000 06000000 08000000 0000000000000000'],
  ['too short a payload', '01000000 05000000 04000000 00000000'],
];

for (const [what, bytes] of bad) {
  test(`a bad reply is an error: ${what}`, async (t) => {
    const { connection } = open(t, respond(bytes));
    await t.throwsAsync(connection.get(messages.GET_FEATURES, undefined), { name: 'VvuError' });
  });
}

test('a reply to nothing ends the connection', async (t) => {
  const { connection, closed } = open(t, (_request, socket) => {
    socket.send(hex('01000000 05000000 08000000 0000000000000000'));
    socket.send(hex('01000000 05000000 08000000 0000000000000000'));
  });
  await connection.get(messages.GET_FEATURES, undefined);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.true(connection.closed);
  t.deepEqual(closed, ['CLOSED']);
});

test('a backend that closes, or says nothing, ends the wait', async (t) => {
  const closing = open(t, (_request, socket) => socket.close());
  await t.throwsAsync(closing.connection.get(messages.GET_FEATURES, undefined), {
    code: 'DISCONNECTED',
  });
  await t.throwsAsync(closing.connection.get(messages.GET_FEATURES, undefined), {
    code: 'DISCONNECTED',
  });
  const silent = open(t, () => undefined, 20);
  await t.throwsAsync(silent.connection.get(messages.GET_FEATURES, undefined), { code: 'TIMEOUT' });
  t.true(silent.connection.closed);
});

test.serial('fds that nobody asked for are closed', async (t) => {
  const extra = native.createEventFd();
  t.teardown(() => native.closeFd(extra));
  const { connection } = open(t, (_request, socket) => {
    socket.send(hex('01000000 05000000 08000000 0000000000000000'), [extra, extra]);
  });
  const before = openFds(process.pid);
  await connection.get(messages.GET_FEATURES, undefined);
  t.is(openFds(process.pid), before);
});
