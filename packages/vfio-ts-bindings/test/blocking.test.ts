import test from 'ava';
import { createTransportPair, VfioUserClient, VfioUserServer } from '../src/index.js';
import { connected } from './harness.js';
import { hex } from './hex.js';
import { ScriptedTransport } from './scripted-transport.js';
import { TestDevice } from './test-device.js';

test('region accesses that block', async (t) => {
  for (const delivery of ['sync', 'async'] as const) {
    const { client, device, finish } = await connected({}, {}, { delivery });
    client.regionWriteSync(0, 8, Uint8Array.of(1, 2));
    t.deepEqual(client.regionReadSync(0, 8, 4), Uint8Array.of(1, 2, 0, 0));
    t.deepEqual(client.regionReadSync(7, 0, 4), hex('f41a5810'));
    client.resetSync();
    t.is(device.calls.at(-1), 'reset');
    t.throws(() => client.regionReadSync(9, 0, 4), { code: 'EINVAL' });
    t.throws(() => client.regionReadSync(0, 0, 0), { code: 'EINVAL' });
    t.is(finish(), 0);
    t.throws(() => client.regionReadSync(0, 0, 4), { code: 'ENOTCONN' });
  }
});

test('what arrives while a request blocks is delivered afterwards, in order', async (t) => {
  const reads: number[] = [];
  const memory = {
    read: (address: number, length: number) => {
      reads.push(address);
      return new Uint8Array(length).fill(7);
    },
    write: () => undefined,
  };
  const { client, server, device, finish } = await connected({ memory }, {}, { delivery: 'async' });
  await client.dmaMap({ address: 0, size: 0x2000 });
  const posted = client.regionWrite(0, 0, Uint8Array.of(9));
  let fromGuest: Promise<Uint8Array> | undefined;
  device.onRead = () => {
    // Asked inside of a handler, and not waited for there.
    fromGuest = server.dmaRead(0x1000, 2);
    device.onRead = undefined;
  };
  t.is(client.regionReadSync(0, 0, 1)[0], 9, 'the posted write was handled before');
  t.deepEqual(reads, [], 'not in the middle of the request');
  t.deepEqual(await fromGuest, Uint8Array.of(7, 7));
  await posted;
  t.deepEqual(reads, [0x1000]);
  t.is(finish(), 0);
});

test('a server that does not answer at once: ETIMEDOUT', async (t) => {
  const pair = createTransportPair();
  const device = new TestDevice(pair.fds);
  const server = new VfioUserServer(pair.server, device, { signalEventFd: () => undefined });
  server.start();
  const client = new VfioUserClient(pair.client);
  await client.connect();
  pair.server.pause();
  t.throws(() => client.regionReadSync(0, 0, 4), { code: 'ETIMEDOUT' });
  pair.server.resume();
  t.is(client.regionReadSync(0, 0, 4).length, 4, 'the late reply was for another id');
  client.close();
});

/** A transport whose blocking request gives what the test says. */
class AnsweringTransport extends ScriptedTransport {
  answer: () => Uint8Array = () => new Uint8Array(0);

  request(): Uint8Array {
    return this.answer();
  }
}

test('a bad answer to a blocking request', async (t) => {
  const transport = new AnsweringTransport();
  const client = new VfioUserClient(transport, { limits: { maxOutstanding: 100 } });
  const connecting = client.connect();
  transport.feed(hex('0100 0100 14000000 01000000 00000000 0000 0000'));
  await connecting;
  const answers: readonly (readonly [string, string])[] = [
    ['', 'EPROTO'],
    ['0200 0900', 'EPROTO'],
    ['0900 0900 10000000 01000000 00000000', 'EPROTO'],
    ['0500 0900 10000000 00000000 00000000', 'EPROTO'],
    ['0600 0900 11000000 01000000 00000000', 'EPROTO'],
    ['0700 0900 10000000 21000000 05000000', 'EIO'],
  ];
  for (const [answer, code] of answers) {
    transport.answer = () => hex(answer);
    t.throws(() => client.regionReadSync(0, 0, 4), { code }, answer);
  }
  transport.answer = () => {
    throw Object.assign(new Error('slow'), { code: 'TIMEOUT' });
  };
  t.throws(() => client.regionReadSync(0, 0, 4), { code: 'ETIMEDOUT' });
  transport.answer = () => {
    throw Object.assign(new Error('gone'), { code: 'ECONNRESET' });
  };
  t.throws(() => client.regionReadSync(0, 0, 4), { code: 'ENOTCONN' });
  client.close();
});
