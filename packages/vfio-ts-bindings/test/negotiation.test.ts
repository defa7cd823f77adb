import test from 'ava';
import { leaked, scriptedServer } from './harness.js';
import { ascii, concat, hex } from './hex.js';
import type { PeerFeatures, VfioUserServerOptions } from '../src/index.js';

interface Agreed {
  readonly features: PeerFeatures;
  readonly reply: { readonly major: number; readonly minor: number; readonly data: unknown };
}

/** Negotiates with this version data (without NUL; undefined for none at all). */
function negotiate(
  data: string | undefined,
  options: Partial<VfioUserServerOptions> = {},
  minor = 0,
): Agreed {
  const scripted = scriptedServer(options, false);
  const header = hex('0000 0100 00000000 00000000 00000000 0000 0000');
  Buffer.from(header.buffer).writeUInt16LE(minor, 18);
  const bytes = concat(header, data === undefined ? new Uint8Array(0) : ascii(`${data}\0`));
  Buffer.from(bytes.buffer).writeUInt32LE(bytes.length, 4);
  scripted.transport.message(bytes);
  const reply = Buffer.from(scripted.transport.take());
  const features = scripted.server.clientFeatures;
  if (leaked(scripted) !== 0) throw new Error('leak');
  return {
    features,
    reply: {
      major: reply.readUInt16LE(16),
      minor: reply.readUInt16LE(18),
      data: JSON.parse(reply.subarray(20, -1).toString()) as unknown,
    },
  };
}

test('the defaults of the specification', (t) => {
  for (const data of [undefined, '{}', '{"capabilities":{}}', ' {\n} ']) {
    const { features, reply } = negotiate(data);
    t.deepEqual(features, {
      maxMsgFds: 1,
      maxDataXferSize: 1048576,
      maxDmaMaps: 65535,
      pgsizes: 4096,
      writeMultiple: false,
      regionRemap: false,
      maxRemapOps: 0,
    });
    t.deepEqual(reply, { major: 0, minor: 0, data: { capabilities: {} } });
  }
});

test('as libvfio-user’s clients send it', (t) => {
  const { features, reply } = negotiate(
    '{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"migration":{"pgsize":4096},' +
      '"twin_socket":{"supported":true}}}',
  );
  t.is(features.maxMsgFds, 8);
  t.deepEqual(
    reply.data,
    { capabilities: { max_msg_fds: 16, max_data_xfer_size: 1048576 } },
    'neither migration nor twin_socket: they are not offered here',
  );
});

test('the minor version is the smaller one', (t) => {
  for (const minor of [0, 1, 2, 65535]) t.is(negotiate('{}', {}, minor).reply.minor, 0);
});

test('bounds are the smaller ones; one below the default is said even if it was not asked for', (t) => {
  const limits = { maxDataXferSize: 65536, maxDmaMaps: 100 };
  const asked = negotiate('{"capabilities":{"max_data_xfer_size":4096,"max_dma_maps":7}}', {
    limits,
  });
  t.is(asked.features.maxDataXferSize, 4096);
  t.is(asked.features.maxDmaMaps, 7);
  t.deepEqual(asked.reply.data, { capabilities: { max_data_xfer_size: 4096, max_dma_maps: 7 } });
  t.deepEqual(negotiate('{}', { limits }).reply.data, {
    capabilities: { max_data_xfer_size: 65536, max_dma_maps: 100 },
  });
});

test('what was not proposed is not answered', (t) => {
  const all = '{"capabilities":{"write_multiple":true,"region_remap":true,"pgsizes":2101248}}';
  t.deepEqual(negotiate(all).reply.data, {
    capabilities: { pgsizes: 2101248, write_multiple: true, region_remap: true },
  });
  const none = negotiate(all, { writeMultiple: false, regionRemap: false });
  t.deepEqual(none.reply.data, { capabilities: { pgsizes: 2101248 } });
  const declined = negotiate('{"capabilities":{"write_multiple":false,"region_remap":false}}');
  t.deepEqual(declined.reply.data, { capabilities: {} });
});

test('unknown members and odd names mean nothing', (t) => {
  const { features } = negotiate(
    '{"__proto__":{"capabilities":{"max_msg_fds":99}},"x":[[1]],' +
      '"capabilities":{"__proto__":{"max_msg_fds":99},"constructor":1,"future":{"a":[{}]}}}',
  );
  t.is(features.maxMsgFds, 1);
  t.is(negotiate('{"a":"[[[[[[[[[[[[\\"{{{{{{{{{{"}').features.maxMsgFds, 1, 'brackets in strings');
});
