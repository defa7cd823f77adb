import test from 'ava';
import { ascii, concat, hex, toHex } from './hex.js';
import { leaked, scriptedServer } from './harness.js';
import { malformed, SETUP_MAP } from './malformed-cases.js';

/** A reply header of command and id of the request, with an errno. */
function errorReply(request: Uint8Array, errno: number): string {
  const reply = Buffer.alloc(16);
  reply.set(request.subarray(0, 4));
  reply.writeUInt32LE(16, 4);
  reply.writeUInt32LE(0x21, 8);
  reply.writeUInt32LE(errno, 12);
  return reply.toString('hex');
}

/** A harmless command, to see that the connection goes on. */
const RESET = hex('5500 0d00 10000000 00000000 00000000');
const RESET_REPLY = '55000d00100000000100000000000000';

for (const { name, bytes, fds = 0, expect } of malformed) {
  test(`refused: ${name}`, (t) => {
    const scripted = scriptedServer();
    const { transport, device, server } = scripted;
    transport.message(SETUP_MAP);
    transport.take();
    const calls = [...device.calls];
    transport.message(
      bytes,
      Array.from({ length: fds }, (_, i) => `bad${i}`),
    );
    t.is(transport.fds.openCount, 2, 'only the device’s own fds are open');
    if (typeof expect === 'string') {
      t.is(toHex(transport.take()), '');
      t.true(transport.closed);
      t.true(server.closed);
      t.deepEqual(device.calls, [...calls, 'unmap all', `closed ${expect}`]);
    } else {
      t.is(toHex(transport.take()), expect === 0 ? '' : errorReply(bytes, expect));
      t.deepEqual(device.calls, calls, 'the device hears nothing of it');
      transport.message(RESET);
      t.is(toHex(transport.take()), RESET_REPLY);
      t.is(server.dmaMaps, 1);
    }
    t.is(leaked(scripted), 0);
    t.deepEqual(scripted.fds.errors, []);
  });
}

test('the table is complete enough', (t) => {
  t.true(malformed.length > 100);
  t.is(new Set(malformed.map(({ name }) => name)).size, malformed.length);
});

/** VERSION with this version data. */
function version(major: number, minor: number, data: Uint8Array): Uint8Array {
  const header = Buffer.alloc(20);
  header.writeUInt16LE(1, 2);
  header.writeUInt32LE(20 + data.length, 4);
  header.writeUInt16LE(major, 16);
  header.writeUInt16LE(minor, 18);
  return concat(header, data);
}

const badVersions: readonly (readonly [string, Uint8Array])[] = [
  ['no JSON', ascii('hello\0')],
  ['JSON without NUL', ascii('{}')],
  ['NUL inside', ascii('{}\0{}\0')],
  ['two NULs', ascii('{}\0\0')],
  ['only a NUL', ascii('\0')],
  ['an array', ascii('[]\0')],
  ['a number', ascii('7\0')],
  ['null', ascii('null\0')],
  ['capabilities as an array', ascii('{"capabilities":[]}\0')],
  ['capabilities as null', ascii('{"capabilities":null}\0')],
  ['max_msg_fds as text', ascii('{"capabilities":{"max_msg_fds":"8"}}\0')],
  ['max_msg_fds below zero', ascii('{"capabilities":{"max_msg_fds":-1}}\0')],
  ['max_msg_fds as a fraction', ascii('{"capabilities":{"max_msg_fds":1.5}}\0')],
  ['max_data_xfer_size 0', ascii('{"capabilities":{"max_data_xfer_size":0}}\0')],
  ['max_data_xfer_size 1e300', ascii('{"capabilities":{"max_data_xfer_size":1e300}}\0')],
  ['max_dma_maps as an object', ascii('{"capabilities":{"max_dma_maps":{}}}\0')],
  ['pgsizes 0', ascii('{"capabilities":{"pgsizes":0}}\0')],
  ['pgsizes below 4096', ascii('{"capabilities":{"pgsizes":512}}\0')],
  ['write_multiple as a number', ascii('{"capabilities":{"write_multiple":1}}\0')],
  ['region_remap as a number', ascii('{"capabilities":{"region_remap":1}}\0')],
  ['region_remap of 0 operations', ascii('{"capabilities":{"region_remap":{"max_ops":0}}}\0')],
  ['no UTF-8', concat(ascii('{"a":"'), hex('ff'), ascii('"}\0'))],
  ['nested too deep', ascii(`{"a":${'['.repeat(2000)}${']'.repeat(2000)}}\0`)],
  ['too long', ascii(`{"a":"${'x'.repeat(100_000)}"}\0`)],
];

for (const [name, data] of badVersions) {
  test(`VERSION refused, connection stays: ${name}`, (t) => {
    const scripted = scriptedServer({}, false);
    const { transport, device } = scripted;
    transport.message(version(0, 0, data));
    t.is(toHex(transport.take()), '00000100100000002100000016000000', 'EINVAL');
    t.is(transport.fds.openCount, 2);
    // Nothing is allowed yet, and a good VERSION still is.
    transport.message(RESET);
    t.is(toHex(transport.take()), '55000d00100000002100000016000000');
    transport.message(version(0, 0, ascii('{}\0')));
    const accepted = concat(
      hex('0000 0100 28000000 01000000 00000000 0000 0000'),
      ascii('{"capabilities":{}}\0'),
    );
    t.is(toHex(transport.take()), toHex(accepted));
    t.deepEqual(device.calls, ['connected']);
    t.is(leaked(scripted), 0);
  });
}

for (const [major, minor] of [
  [1, 0],
  [2, 7],
  [65535, 65535],
] as const) {
  test(`VERSION ${major}.${minor}: ENOTSUP, and the connection ends`, (t) => {
    const scripted = scriptedServer({}, false);
    const { transport, device } = scripted;
    transport.message(version(major, minor, ascii('{}\0')));
    t.is(toHex(transport.take()), '0000010010000000210000005f000000');
    t.true(transport.closed);
    t.deepEqual(device.calls, []);
    t.is(leaked(scripted), 0);
  });
}

test('VERSION with an fd', (t) => {
  const scripted = scriptedServer({}, false);
  scripted.transport.message(version(0, 0, ascii('{}\0')), ['stray']);
  t.is(toHex(scripted.transport.take()), '00000100100000002100000016000000');
  t.is(leaked(scripted), 0);
});

test('what comes behind a refused major version is not looked at', (t) => {
  const scripted = scriptedServer({}, false);
  scripted.transport.message(concat(version(1, 0, new Uint8Array(0)), RESET));
  t.is(scripted.transport.sent.length, 1);
  scripted.transport.message(RESET, ['late']);
  t.is(scripted.transport.sent.length, 1);
  t.is(leaked(scripted), 0);
});

test('fds that begin no message are closed', (t) => {
  const scripted = scriptedServer();
  const { transport, fds } = scripted;
  const write = hex(
    '0100 0a00 24000000 00000000 00000000 0000000000000000 00000000 04000000 01020304',
  );
  transport.message(write.subarray(0, 20));
  transport.message(write.subarray(20, 30), ['stray1', 'stray2']);
  t.is(fds.openCount, 2);
  transport.message(write.subarray(30), ['stray3']);
  t.is(fds.openCount, 2);
  transport.message(new Uint8Array(0), ['stray4']);
  t.is(fds.openCount, 2);
  t.is(transport.sent.length, 1);
  t.is(leaked(scripted), 0);
});
