import test from 'ava';
import { VfioUserClient, VfioUserError } from '../src/index.js';
import { ascii, concat, hex, toHex } from './hex.js';
import { FULL, scriptedClient, versionReply } from './scripted-client.js';
import { ScriptedTransport } from './scripted-transport.js';

test('the VERSION that is sent, byte for byte', async (t) => {
  const transport = new ScriptedTransport();
  const client = new VfioUserClient(transport);
  const connecting = client.connect();
  const expected = concat(
    hex('0100 0100 8f000000 00000000 00000000 0000 0000'),
    ascii(
      '{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,' +
        '"max_dma_maps":65535,"pgsizes":4096,"write_multiple":true}}\0',
    ),
  );
  t.is(toHex(transport.take()), toHex(expected));
  transport.feed(versionReply('{}\0'));
  const features = await connecting;
  t.is(features.maxMsgFds, 1, 'the default of the specification');
  t.false(features.writeMultiple);
  client.close();
});

const badVersions: readonly (readonly [string, Uint8Array, string])[] = [
  ['another major', versionReply(FULL, '0100'), 'EPROTO'],
  ['a larger minor', versionReply(FULL, '0000', '0100'), 'EPROTO'],
  ['no JSON', versionReply('x\0'), 'EINVAL'],
  ['no NUL', versionReply('{}'), 'EPROTO'],
  ['an error', hex('0100 0100 10000000 21000000 5f000000'), 'ENOTSUP'],
  ['an error without errno', hex('0100 0100 10000000 21000000 00000000'), 'ERRNO_0'],
  ['another command', hex('0100 0400 14000000 01000000 00000000 00000000'), 'EPROTO'],
  ['too short', hex('0100 0100 12000000 01000000 00000000 0000'), 'EPROTO'],
];

for (const [name, reply, code] of badVersions) {
  test(`negotiation fails and closes: ${name}`, async (t) => {
    const transport = new ScriptedTransport();
    const client = new VfioUserClient(transport);
    const connecting = client.connect();
    transport.message(reply);
    await t.throwsAsync(connecting, { instanceOf: VfioUserError, code });
    t.true(transport.closed);
    t.true(client.closed);
    t.is(transport.fds.openCount, 0);
  });
}

test('an fd with the VERSION reply was not asked for', async (t) => {
  const transport = new ScriptedTransport();
  const connecting = new VfioUserClient(transport).connect();
  transport.message(versionReply(FULL), ['twin socket']);
  await t.throwsAsync(connecting, { code: 'EPROTO' });
  t.is(transport.fds.openCount, 0);
});

/** Replies to `regionRead(0, 0, 4)`, id 2. */
const badReads: readonly (readonly [string, string, string])[] = [
  [
    'shorter',
    '0200 0900 22000000 01000000 00000000 0000000000000000 00000000 02000000 aabb',
    'EPROTO',
  ],
  [
    'longer',
    '0200 0900 25000000 01000000 00000000 0000000000000000 00000000 05000000 aabbccddee',
    'EPROTO',
  ],
  [
    'count beside the data',
    '0200 0900 22000000 01000000 00000000 0000000000000000 00000000 04000000 aabb',
    'EPROTO',
  ],
  ['no payload', '0200 0900 10000000 01000000 00000000', 'EPROTO'],
  [
    'for a write',
    '0200 0a00 20000000 01000000 00000000 0000000000000000 00000000 04000000',
    'EPROTO',
  ],
  ['an error', '0200 0900 10000000 21000000 16000000', 'EINVAL'],
  ['an errno without a name here', '0200 0900 10000000 21000000 39300000', 'ERRNO_12345'],
];

for (const [name, reply, code] of badReads) {
  test(`REGION_READ reply: ${name}`, async (t) => {
    const { client, transport } = await scriptedClient();
    const reading = client.regionRead(0, 0, 4);
    transport.message(hex(reply));
    await t.throwsAsync(reading, { instanceOf: VfioUserError, code });
    t.is(transport.fds.openCount, 0);
    t.false(client.closed);
    client.close();
  });
}

test('an fd that no reply of the kind has', async (t) => {
  const { client, transport } = await scriptedClient();
  const reading = client.regionRead(0, 0, 2);
  const reply = '0200 0900 22000000 01000000 00000000 0000000000000000 00000000 02000000 aabb';
  transport.message(hex(reply), ['fd']);
  await t.throwsAsync(reading, { code: 'EPROTO', message: /1 fds/ });
  t.is(transport.fds.openCount, 0);
  client.close();
});

test('a write that the server says was not whole', async (t) => {
  const { client, transport } = await scriptedClient();
  const writing = client.regionWrite(0, 0, hex('aabb'));
  transport.feed(hex('0200 0a00 20000000 01000000 00000000 0000000000000000 00000000 01000000'));
  await t.throwsAsync(writing, { code: 'EPROTO' });
  client.close();
});

/** Replies to `regionIoFds(0)`, id 2: argsz, flags, index, count, entries; and their fds. */
const ioEntry =
  '0000000000000000 0200000000000000 01000000 00000000 00000000 00000000 0000000000000000';
const badIoFds: readonly (readonly [string, string, number])[] = [
  [
    'an fd index without fd',
    `48000000 01000000 00000000 38000000 00000000 00000000 01000000 ${ioEntry}`,
    1,
  ],
  ['another region', '20000000 01000000 00000000 10000000 00000000 01000000 00000000', 1],
  [
    'more entries than bytes',
    `48000000 01000000 00000000 38000000 00000000 00000000 02000000 ${ioEntry}`,
    2,
  ],
  ['flags', '20000000 01000000 00000000 10000000 01000000 00000000 00000000', 1],
];

for (const [name, rest, fds] of badIoFds) {
  test(`GET_REGION_IO_FDS reply: ${name}`, async (t) => {
    const { client, transport } = await scriptedClient();
    const asking = client.regionIoFds(0);
    const short = '20000000 01000000 00000000 38000000 00000000 00000000 01000000';
    transport.feed(hex(`0200 0600 ${short}`));
    await new Promise((resolve) => setImmediate(resolve));
    transport.message(
      hex(`0300 0600 ${rest}`),
      Array.from({ length: fds }, () => 'fd'),
    );
    await t.throwsAsync(asking, { code: 'EPROTO' });
    t.is(transport.fds.openCount, 0);
    client.close();
  });
}

test('a server that asks for ever larger replies', async (t) => {
  const { client, transport } = await scriptedClient();
  const asking = client.regionIoFds(0);
  transport.feed(hex('0200 0600 20000000 01000000 00000000 38000000 00000000 00000000 01000000'));
  await new Promise((resolve) => setImmediate(resolve));
  transport.feed(hex('0300 0600 20000000 01000000 00000000 60000000 00000000 00000000 02000000'));
  await t.throwsAsync(asking, { code: 'EPROTO', message: /larger/ });
  client.close();
});

/** Replies to `regionInfo(2)`, id 2: argsz, flags, index, cap_offset, size, offset, … */
const badInfos: readonly (readonly [string, string, number])[] = [
  [
    'mappable without fd',
    '30000000 01000000 00000000 20000000 07000000 02000000 00000000 0020000000000000 0000000000000000',
    0,
  ],
  [
    'fd but not mappable',
    '30000000 01000000 00000000 20000000 03000000 02000000 00000000 0020000000000000 0000000000000000',
    1,
  ],
  [
    'two fds',
    '30000000 01000000 00000000 20000000 07000000 02000000 00000000 0020000000000000 0000000000000000',
    2,
  ],
  [
    'another region',
    '30000000 01000000 00000000 20000000 07000000 03000000 00000000 0020000000000000 0000000000000000',
    1,
  ],
  [
    'size of 2^53',
    '30000000 01000000 00000000 20000000 07000000 02000000 00000000 0000000000002000 0000000000000000',
    1,
  ],
  [
    'argsz 0',
    '30000000 01000000 00000000 00000000 07000000 02000000 00000000 0020000000000000 0000000000000000',
    1,
  ],
  [
    'argsz 2^32 - 1',
    '30000000 01000000 00000000 ffffffff 07000000 02000000 00000000 0020000000000000 0000000000000000',
    1,
  ],
];

for (const [name, rest, fds] of badInfos) {
  test(`GET_REGION_INFO reply: ${name}`, async (t) => {
    const { client, transport } = await scriptedClient();
    const asking = client.regionInfo(2);
    transport.message(
      hex(`0200 0500 ${rest}`),
      Array.from({ length: fds }, () => 'fd'),
    );
    await t.throwsAsync(asking, { code: 'EPROTO' });
    t.is(transport.fds.openCount, 0);
    client.close();
  });
}

/** Full replies with capabilities, id 3, behind a short one that asks for argsz 80. */
const CAPS = '50000000 0f000000 02000000';
const badCaps: readonly (readonly [string, string])[] = [
  [
    'cap_offset in the fixed part',
    `${CAPS} 08000000 0020000000000000 0000000000000000 ${'00'.repeat(48)}`,
  ],
  [
    'cap_offset behind the end',
    `${CAPS} 50000000 0020000000000000 0000000000000000 ${'00'.repeat(48)}`,
  ],
  ['cap_offset unaligned', `${CAPS} 21000000 0020000000000000 0000000000000000 ${'00'.repeat(48)}`],
  [
    'a loop',
    `${CAPS} 20000000 0020000000000000 0000000000000000 0900 0100 20000000 ${'00'.repeat(40)}`,
  ],
  [
    'a chain backwards',
    `${CAPS} 28000000 0020000000000000 0000000000000000 ${'00'.repeat(8)} 0900 0100 20000000 ${'00'.repeat(32)}`,
  ],
  [
    'too many areas',
    `${CAPS} 20000000 0020000000000000 0000000000000000 0100 0100 00000000 03000000 00000000 ${'00'.repeat(32)}`,
  ],
  [
    '2^32 - 1 areas',
    `${CAPS} 20000000 0020000000000000 0000000000000000 0100 0100 00000000 ffffffff 00000000 ${'00'.repeat(32)}`,
  ],
  [
    'an area beyond the region',
    `${CAPS} 20000000 0020000000000000 0000000000000000 0100 0100 00000000 01000000 00000000 0010000000000000 0120000000000000 ${'00'.repeat(16)}`,
  ],
];

for (const [name, payload] of badCaps) {
  test(`region capabilities: ${name}`, async (t) => {
    const { client, transport } = await scriptedClient();
    const asking = client.regionInfo(2);
    const short = `${CAPS} 20000000 0020000000000000 0000000000000000`;
    transport.message(hex(`0200 0500 30000000 01000000 00000000 ${short}`));
    // The second request is sent in a later turn.
    await Promise.resolve().then(() => undefined);
    await new Promise((resolve) => setImmediate(resolve));
    t.is(toHex(transport.take()).slice(-64, -56), '50000000', 'asked again with argsz 80');
    transport.message(hex(`0300 0500 60000000 01000000 00000000 ${payload}`), ['fd']);
    await t.throwsAsync(asking, { code: 'EPROTO' });
    t.is(transport.fds.openCount, 0);
    client.close();
  });
}

test('unknown capabilities are skipped', async (t) => {
  const { client, transport } = await scriptedClient();
  const asking = client.regionInfo(2);
  const caps = '48000000 0f000000 02000000 20000000 0020000000000000 0000000000000000';
  transport.message(hex(`0200 0500 30000000 01000000 00000000 ${caps}`));
  await new Promise((resolve) => setImmediate(resolve));
  transport.message(
    hex(
      `0300 0500 58000000 01000000 00000000 ${caps}` +
        '0900 0100 28000000' +
        '0100 0100 00000000 01000000 00000000 0000000000000000 0010000000000000',
    ),
    ['bar'],
  );
  const { areas, fd } = await asking;
  t.deepEqual(areas, [{ offset: 0, size: 4096 }]);
  t.is(transport.fds.label(fd ?? -1), 'bar');
  client.close();
});

test('a request without a reply times out; its late reply is dropped, and its id was not reused', async (t) => {
  const warnings: string[] = [];
  const { client, transport } = await scriptedClient({
    log: { warn: (text) => warnings.push(text) },
  });
  await t.throwsAsync(client.regionRead(0, 0, 4), { code: 'ETIMEDOUT' });
  const second = client.reset();
  t.is(transport.sent.at(-1)?.bytes[0], 3);
  transport.message(hex('0200 0900 10000000 21000000 16000000'), ['late']);
  t.deepEqual(warnings, [], 'known to be late');
  t.is(transport.fds.openCount, 0);
  transport.message(hex('0300 0d00 10000000 01000000 00000000'));
  await second;
  transport.message(hex('0300 0d00 10000000 01000000 00000000'), ['twice']);
  t.is(warnings.length, 1);
  t.is(transport.fds.openCount, 0);
  client.close();
});

test('a server that answers nothing is given up', async (t) => {
  const closed: string[] = [];
  const { client, transport } = await scriptedClient({
    requestTimeoutMs: 10,
    limits: { maxOutstanding: 3 },
    onClosed: (reason) => closed.push(reason),
  });
  const results = await Promise.allSettled([client.reset(), client.reset(), client.reset()]);
  t.true(results.every(({ status }) => status === 'rejected'));
  t.deepEqual(closed, ['UNRESPONSIVE']);
  t.true(transport.closed);
});

test('outstanding requests are bounded, and rejected when the connection ends', async (t) => {
  const { client, transport } = await scriptedClient({ limits: { maxOutstanding: 2 } });
  const first = client.reset();
  const second = client.regionRead(0, 0, 4);
  await t.throwsAsync(client.reset(), { code: 'EBUSY' });
  transport.end('ECONNRESET');
  await t.throwsAsync(first, { code: 'ENOTCONN', message: /ECONNRESET/ });
  await t.throwsAsync(second, { code: 'ENOTCONN' });
  await t.throwsAsync(client.reset(), { code: 'ENOTCONN' });
  t.throws(() => client.regionWritePosted(0, 0, Uint8Array.of(1)), { code: 'ENOTCONN' });
  t.true(client.closed);
});

test('arguments that the protocol has no room for are refused before anything is sent', async (t) => {
  const { client, transport } = await scriptedClient();
  await t.throwsAsync(client.regionRead(0, 0, 0), { code: 'EINVAL' });
  await t.throwsAsync(client.regionRead(0, 0, 1.5), { code: 'EINVAL' });
  await t.throwsAsync(client.regionRead(0, 0, 1024 * 1024 + 1), { code: 'EINVAL' });
  await t.throwsAsync(client.regionWrite(0, 0, new Uint8Array(0)), { code: 'EINVAL' });
  const nine = [{ region: 0, offset: 0, data: new Uint8Array(9) }];
  await t.throwsAsync(client.regionWriteMulti(nine), { code: 'EINVAL' });
  t.throws(() => client.regionReadSync(0, 0, 4), { code: 'ENOTSUP' });
  t.is(transport.sent.length, 0);
  client.close();
});
