import test from 'ava';
import { leaked, scriptedServer, type ScriptedServer } from './harness.js';
import { hex, toHex } from './hex.js';
import { VfioUserServer, type VfioUserServerOptions } from '../src/index.js';
import { ScriptedTransport } from './scripted-transport.js';
import { TestDevice } from './test-device.js';

/** A server with [0, 1 MiB) mapped for reading and writing. */
function withMemory(options: Partial<VfioUserServerOptions> = {}): ScriptedServer {
  const scripted = scriptedServer(options);
  scripted.transport.message(
    hex(
      '0100 0200 30000000 00000000 00000000' +
        '20000000 03000000 0000000000000000 0000000000000000 0000100000000000',
    ),
  );
  scripted.transport.sent.length = 0;
  return scripted;
}

test('DMA_READ, byte for byte', async (t) => {
  const scripted = withMemory();
  const reading = scripted.server.dmaRead(0x1234, 3);
  t.is(
    toHex(scripted.transport.take()),
    toHex(hex('0100 0b00 20000000 00000000 00000000 3412000000000000 0300000000000000')),
  );
  scripted.transport.message(
    hex('0100 0b00 23000000 01000000 00000000 3412000000000000 0300000000000000 aabbcc'),
  );
  t.deepEqual(await reading, hex('aabbcc'));
  t.is(leaked(scripted), 0);
});

for (const [name, reply] of [
  [
    '16 bytes, as libvfio-user',
    '0100 0c00 20000000 01000000 00000000 3412000000000000 0200000000000000',
  ],
  [
    '12 bytes, as the table in the specification',
    '0100 0c00 1c000000 01000000 00000000 3412000000000000 02000000',
  ],
  ['a header, as QEMU', '0100 0c00 10000000 01000000 00000000'],
] as const) {
  test(`DMA_WRITE, byte for byte; the reply is ${name}`, async (t) => {
    const scripted = withMemory();
    const writing = scripted.server.dmaWrite(0x1234, hex('aabb'));
    t.is(
      toHex(scripted.transport.take()),
      toHex(hex('0100 0c00 22000000 00000000 00000000 3412000000000000 0200000000000000 aabb')),
    );
    scripted.transport.message(hex(reply));
    await writing;
    t.is(leaked(scripted), 0);
  });
}

for (const [name, reply, code] of [
  ['an error', '0100 0b00 10000000 21000000 0e000000', 'EFAULT'],
  [
    'fewer bytes',
    '0100 0b00 22000000 01000000 00000000 3412000000000000 0200000000000000 aabb',
    'EPROTO',
  ],
  [
    'another address',
    '0100 0b00 23000000 01000000 00000000 3512000000000000 0300000000000000 aabbcc',
    'EPROTO',
  ],
  [
    'count beside the data',
    '0100 0b00 22000000 01000000 00000000 3412000000000000 0300000000000000 aabb',
    'EPROTO',
  ],
  [
    'a count of 2^64 - 1',
    '0100 0b00 20000000 01000000 00000000 3412000000000000 ffffffffffffffff',
    'EPROTO',
  ],
  ['another command', '0100 0c00 10000000 01000000 00000000', 'EPROTO'],
] as const) {
  test(`a bad reply to DMA_READ: ${name}`, async (t) => {
    const scripted = withMemory();
    const reading = scripted.server.dmaRead(0x1234, 3);
    scripted.transport.message(hex(reply));
    await t.throwsAsync(reading, { code });
    t.false(scripted.server.closed);
    t.is(leaked(scripted), 0);
  });
}

test('a DMA_WRITE that the client says was not whole', async (t) => {
  const scripted = withMemory();
  const writing = scripted.server.dmaWrite(0, hex('aabb'));
  scripted.transport.message(
    hex('0100 0c00 20000000 01000000 00000000 0000000000000000 0100000000000000'),
  );
  await t.throwsAsync(writing, { code: 'EPROTO' });
  t.is(leaked(scripted), 0);
});

test('a long transfer is cut, and checked again for each part', async (t) => {
  const scripted = withMemory({ limits: { maxDataXferSize: 4096 } });
  const { transport, server } = scripted;
  const reading = server.dmaRead(0, 8192);
  t.is(transport.sent.length, 1, 'one part at a time');
  transport.message(
    hex('0200 0300 28000000 00000000 00000000 18000000 00000000 0000000000000000 0000100000000000'),
  );
  transport.message(
    new Uint8Array([
      ...hex('0100 0b00 20100000 01000000 00000000 0000000000000000 0010000000000000'),
      ...new Uint8Array(4096),
    ]),
  );
  await t.throwsAsync(reading, { code: 'EFAULT' });
  t.is(leaked(scripted), 0);
});

test('nothing is sent for memory that is not mapped, or not for this', async (t) => {
  const scripted = withMemory();
  const { server, transport } = scripted;
  await t.throwsAsync(server.dmaRead(0x100000, 1), { code: 'EFAULT' });
  await t.throwsAsync(server.dmaRead(0xfffff, 2), { code: 'EFAULT' });
  await t.throwsAsync(server.dmaRead(Number.MAX_SAFE_INTEGER, 2), { code: 'EFAULT' });
  await t.throwsAsync(server.dmaWrite(2 ** 60, new Uint8Array(2)), { code: 'EFAULT' });
  t.is(transport.sent.length, 0);
  t.is(leaked(scripted), 0);
});

test('requests to the client are bounded, time out, and end with the connection', async (t) => {
  const scripted = withMemory({ requestTimeoutMs: 20, limits: { maxOutstanding: 2 } });
  const { server, transport, device } = scripted;
  const first = server.dmaRead(0, 1);
  const second = server.dmaRead(0, 1);
  await t.throwsAsync(server.dmaRead(0, 1), { code: 'EBUSY' });
  transport.message(
    hex('0100 0b00 21000000 01000000 00000000 0000000000000000 0100000000000000 42'),
  );
  t.is((await first)[0], 0x42);
  await t.throwsAsync(second, { code: 'ETIMEDOUT' });
  t.false(server.closed);
  const third = server.dmaRead(0, 1);
  await t.throwsAsync(third, { code: 'ETIMEDOUT' });
  t.true(server.closed);
  t.is(device.calls.at(-1), 'closed UNRESPONSIVE');
  t.is(leaked(scripted), 0);

  const other = withMemory();
  const pending = other.server.dmaWrite(0, new Uint8Array(4));
  other.transport.end('ECONNRESET');
  await t.throwsAsync(pending, { code: 'ENOTCONN' });
  await t.throwsAsync(other.server.dmaRead(0, 1), { code: 'EFAULT' });
  t.is(leaked(other), 0);
});

test('a client that does not read its replies stops being read', (t) => {
  const scripted = scriptedServer();
  const { transport, device } = scripted;
  const write = hex('0100 0a00 21000000 00000000 00000000 0000000000000000 00000000 01000000 ff');
  transport.room = false;
  const three = new Uint8Array([...write, ...write, ...write]);
  transport.feed(three);
  t.true(transport.paused);
  t.is(transport.sent.length, 1, 'the replies that fit, and no more');
  t.is(device.calls.length, 2);
  transport.room = true;
  transport.handlers?.writable?.();
  t.false(transport.paused);
  t.is(transport.sent.length, 3);
  t.is(leaked(scripted), 0);
});

test('the device may close the connection inside of a handler', (t) => {
  const scripted = scriptedServer();
  const { transport, device, server } = scripted;
  device.onRead = () => server.close();
  const read = hex('0100 0900 20000000 00000000 00000000 0000000000000000 00000000 04000000');
  transport.message(new Uint8Array([...read, ...read]));
  t.is(transport.sent.length, 0);
  t.true(transport.closed);
  t.deepEqual(device.calls, ['connected', 'unmap all', 'closed CLOSED']);
  t.is(leaked(scripted), 0);
});

test('what notifications throw is logged', (t) => {
  const scripted = scriptedServer({}, false);
  const { device, warnings, transport } = scripted;
  device.connected = () => {
    throw new Error('no');
  };
  device.closed = () => {
    throw new Error('no');
  };
  transport.message(hex('0100 0100 14000000 00000000 00000000 0000 0000'));
  transport.end();
  t.is(warnings.length, 2);
  t.is(leaked(scripted), 0);
});

test('a device whose areas no client could map is refused at once', (t) => {
  const rw = { readable: true, writable: true };
  const good = { size: 0x4000, ...rw };
  const mmaps = [
    { fd: 3, fileOffset: 0, areas: [{ offset: 0x3000, size: 0x2000 }] },
    { fd: 3, fileOffset: 0, areas: [{ offset: 0x800, size: 0x1000 }] },
    { fd: 3, fileOffset: 0, areas: [{ offset: 0, size: 0x800 }] },
    { fd: 3, fileOffset: 0, areas: [{ offset: 0, size: 0 }] },
    { fd: 3, fileOffset: 8, areas: [{ offset: 0, size: 0x1000 }] },
    { fd: 3, fileOffset: -0x2000, areas: [{ offset: 0x1000, size: 0x1000 }] },
    {
      fd: 3,
      fileOffset: 0,
      areas: [
        { offset: 0x1000, size: 0x1000 },
        { offset: 0, size: 0x1000 },
      ],
    },
  ];
  for (const mmap of mmaps) {
    const transport = new ScriptedTransport();
    const device = new TestDevice(transport.fds);
    Object.defineProperty(device, 'regions', { value: [{ ...good, mmap }] });
    const make = (): unknown =>
      new VfioUserServer(transport, device, { signalEventFd: () => undefined });
    t.throws(make, { code: 'EINVAL' }, JSON.stringify(mmap));
  }
});
