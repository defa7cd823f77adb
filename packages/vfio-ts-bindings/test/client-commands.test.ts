import test from 'ava';
import { VfioUserError } from '../src/index.js';
import { hex, toHex } from './hex.js';
import { scriptedClient } from './scripted-client.js';

/** Commands of a server that the client refuses: bytes, fds, errno in hexadecimal. */
const refused: readonly (readonly [string, string, number, string])[] = [
  [
    'DMA_READ without memory',
    '0700 0b00 20000000 00000000 00000000 0000000000000000 0400000000000000',
    0,
    '5f',
  ],
  [
    'DMA_WRITE without memory',
    '0700 0c00 21000000 00000000 00000000 0000000000000000 0100000000000000 ff',
    0,
    '5f',
  ],
  [
    'DMA_READ with an fd',
    '0700 0b00 20000000 00000000 00000000 0000000000000000 0400000000000000',
    1,
    '16',
  ],
  ['DMA_READ cut short', '0700 0b00 18000000 00000000 00000000 0000000000000000', 0, '16'],
  [
    'DMA_READ over 2^64',
    '0700 0b00 20000000 00000000 00000000 ffffffffffffffff 0200000000000000',
    0,
    '16',
  ],
  [
    'DMA_READ at 2^53',
    '0700 0b00 20000000 00000000 00000000 0000000000002000 0200000000000000',
    0,
    '22',
  ],
  [
    'region_remap that was not offered',
    `0700 0180 48000000 00000000 00000000 38000000 00000000 04000000 01000000 ${'00'.repeat(40)}`,
    2,
    '26',
  ],
  ['a command of clients', '0700 0d00 10000000 00000000 00000000', 1, '16'],
  ['an unknown command', '0700 1300 10000000 00000000 00000000', 1, '26'],
  ['reserved flags', '0700 0b00 10000000 20000000 00000000', 1, '16'],
];

for (const [name, request, fds, errno] of refused) {
  test(`a command of the server is refused: ${name}`, async (t) => {
    const { client, transport } = await scriptedClient();
    transport.message(
      hex(request),
      Array.from({ length: fds }, () => 'fd'),
    );
    await new Promise((resolve) => setImmediate(resolve));
    const command = toHex(hex(request).subarray(2, 4));
    t.is(toHex(transport.take()), `0700${command}1000000021000000${errno}000000`);
    t.is(transport.fds.openCount, 0);
    t.false(client.closed);
    client.close();
  });
}

test('client memory: bounds, errors, and a read of another length', async (t) => {
  const failures: Error[] = [];
  const memory = {
    read: (_address: number, length: number) => {
      const failure = failures.pop();
      if (failure !== undefined) throw failure;
      return new Uint8Array(length === 3 ? 2 : length);
    },
    write: () => {
      throw new Error('read-only');
    },
  };
  const { client, transport } = await scriptedClient({ memory, limits: { maxDataXferSize: 4096 } });
  const read = (count: string): string => {
    transport.feed(
      hex(`0700 0b00 20000000 00000000 00000000 0000000000000000 ${count}000000000000`),
    );
    return toHex(transport.take());
  };
  t.is(
    read('0200'),
    toHex(hex('0700 0b00 22000000 01000000 00000000 0000000000000000 0200000000000000 0000')),
  );
  t.is(read('0300'), '07000b0010000000210000000e000000', 'EFAULT');
  t.is(read('0110'), '07000b00100000002100000016000000', 'EINVAL: 4097 bytes');
  failures.push(new VfioUserError('EPERM', 'not readable'));
  t.is(read('0200'), '07000b00100000002100000001000000');
  transport.feed(hex('0700 0c00 21000000 10000000 00000000 0000000000000000 0100000000000000 ff'));
  t.is(transport.sent.length, 0, 'No_reply: not even an error');
  client.close();
});

test('a full transport holds commands back, and replies are still read', async (t) => {
  const memory = { read: (_: number, n: number) => new Uint8Array(n), write: () => undefined };
  const { client, transport } = await scriptedClient({ memory, limits: { maxDeferred: 2 } });
  const dmaRead = hex('0700 0b00 20000000 00000000 00000000 0000000000000000 0100000000000000');
  transport.room = false;
  const resetting = client.reset();
  transport.feed(dmaRead);
  transport.feed(dmaRead);
  t.is(transport.sent.length, 1);
  t.false(transport.paused);
  transport.feed(hex('0200 0d00 10000000 01000000 00000000'));
  await resetting;
  transport.room = true;
  transport.handlers?.writable?.();
  t.is(transport.sent.length, 3);
  transport.room = false;
  const second = client.reset();
  for (let i = 0; i < 3; i += 1) transport.feed(dmaRead);
  await t.throwsAsync(second, { code: 'ENOTCONN', message: /FLOODED/ });
});

test('a transport that throws is a connection that ended', async (t) => {
  const { client, transport } = await scriptedClient();
  transport.send = () => {
    throw new Error('EPIPE');
  };
  await t.throwsAsync(client.reset(), { code: 'ENOTCONN', message: /SEND_FAILED/ });
  t.true(transport.closed);
});
