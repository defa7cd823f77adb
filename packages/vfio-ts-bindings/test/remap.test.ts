import test from 'ava';
import {
  applyRemap,
  VfioUserError,
  type RegionRemapRequest,
  type RemapMap,
  type RemapOp,
  type VfioUserClientOptions,
} from '../src/index.js';
import { connected, leaked, scriptedServer } from './harness.js';
import { ascii, concat, hex, toHex } from './hex.js';

const MIB = 1024 * 1024;

function map(offset: number, length: number, fd: number, fileOffset = 0): RemapMap {
  return { kind: 'map', offset, length, fd, fileOffset, readable: true, writable: true };
}

function unmap(offset: number, length: number): RemapOp {
  return { kind: 'unmap', offset, length };
}

/** VERSION that offers region_remap. */
function offer(value: string): Uint8Array {
  const data = ascii(`{"capabilities":{"max_msg_fds":2,"region_remap":${value}}}\0`);
  const header = hex('0000 0100 00000000 00000000 00000000 0000 0000');
  Buffer.from(header.buffer).writeUInt32LE(header.length + data.length, 4);
  return concat(header, data);
}

test('the command, byte for byte', async (t) => {
  const scripted = scriptedServer({}, false);
  const { transport, server, fds } = scripted;
  transport.message(offer('{"max_ops":3}'));
  t.is(
    toHex(transport.take().subarray(20)),
    toHex(ascii('{"capabilities":{"max_msg_fds":16,"region_remap":true}}\0')),
  );
  t.true(server.clientFeatures.regionRemap);
  t.is(server.clientFeatures.maxRemapOps, 3);
  const [a, b] = [fds.open('a'), fds.open('b')];
  const done = server.remapRegion(3, [
    unmap(0x2000, 0x1000),
    map(0x2000, 0x3000, a, 0x5000),
    { ...map(0x8000, 0x1000, b), writable: false },
  ]);
  t.deepEqual(transport.sent[0]?.fdLabels, ['a', 'b']);
  t.is(
    toHex(transport.take()),
    toHex(
      hex(
        '0100 0180 98000000 00000000 00000000' +
          '88000000 00000000 03000000 03000000' +
          '02000000 00000000 0020000000000000 0010000000000000 0000000000000000 00000000 00000000' +
          '01000000 03000000 0020000000000000 0030000000000000 0050000000000000 00000000 00000000' +
          '01000000 01000000 0080000000000000 0010000000000000 0000000000000000 01000000 00000000',
      ),
    ),
  );
  transport.message(hex('0100 0180 10000000 01000000 00000000'));
  await done;
  const refused = server.remapRegion(3, [unmap(0x8000, 0x1000)]);
  transport.message(hex('0200 0180 10000000 21000000 02000000'));
  const error = await t.throwsAsync(refused, { instanceOf: VfioUserError });
  t.is(error.code, 'ENOENT');
  t.true(error.remote);
  fds.close(a);
  fds.close(b);
  t.is(leaked(scripted), 0);
});

test('never sent to a client that did not offer it', async (t) => {
  for (const scripted of [scriptedServer(), scriptedServer({ regionRemap: false }, false)]) {
    scripted.transport.message(offer('true'));
    scripted.transport.sent.length = 0;
    t.false(scripted.server.clientFeatures.regionRemap);
    await t.throwsAsync(scripted.server.remapRegion(3, [unmap(0, 4096)]), { code: 'ENOTSUP' });
    t.is(scripted.transport.sent.length, 0);
    t.is(leaked(scripted), 0);
  }
});

test('what could not be applied as a whole is not sent', async (t) => {
  const scripted = scriptedServer({}, false);
  const { transport, server } = scripted;
  transport.message(offer('{"max_ops":3}'));
  transport.sent.length = 0;
  const cases: readonly (readonly [readonly RemapOp[], string])[] = [
    [[], 'EINVAL'],
    [[map(0, 4096, 1), map(4096, 4096, 2), map(8192, 4096, 3)], 'E2BIG'],
    [Array.from({ length: 4 }, (_, i) => unmap(i * 4096, 4096)), 'E2BIG'],
    [[map(0x10000, 4096, 1)], 'EINVAL'],
    [[map(0xf000, 8192, 1)], 'EINVAL'],
    [[map(100, 4096, 1)], 'EINVAL'],
    [[map(0, 100, 1)], 'EINVAL'],
    [[map(0, 4096, 1, 100)], 'EINVAL'],
    [[map(-4096, 4096, 1)], 'EINVAL'],
    [[map(0, 0, 1)], 'EINVAL'],
    [
      [
        {
          kind: 'map',
          offset: 0,
          length: 4096,
          fd: 1,
          fileOffset: 0,
          readable: false,
          writable: false,
        },
      ],
      'EINVAL',
    ],
  ];
  for (const [ops, code] of cases) {
    await t.throwsAsync(server.remapRegion(3, ops), { code }, JSON.stringify(ops));
  }
  await t.throwsAsync(server.remapRegion(4, [unmap(0, 4096)]), { code: 'EINVAL' }, 'mappable');
  await t.throwsAsync(server.remapRegion(2, [map(0, 8192, 1)]), { code: 'EINVAL' }, 'half of it');
  await t.throwsAsync(server.remapRegion(9, [unmap(0, 4096)]), { code: 'EINVAL' });
  t.is(transport.sent.length, 0);
  t.is(leaked(scripted), 0);
});

test('the client’s handler gets the operations and their fds, which are closed afterwards', async (t) => {
  const seen: string[] = [];
  const labels: (string | undefined)[] = [];
  let finishHandler: () => void = () => undefined;
  const handler = async ({ region, ops }: RegionRemapRequest): Promise<void> => {
    seen.push(`${region}: ${ops.map(({ kind, offset }) => `${kind} ${offset}`).join()}`);
    await new Promise<void>((resolve) => {
      finishHandler = resolve;
    });
    for (const op of ops) if (op.kind === 'map') labels.push(fds.label(op.fd));
    seen.push('applied');
  };
  const memory = {
    read: (_address: number, length: number) => {
      seen.push('read');
      return new Uint8Array(length);
    },
    write: () => undefined,
  };
  const { client, server, fds, finish } = await connected({ regionRemap: handler, memory });
  t.true(client.serverFeatures.regionRemap);
  t.is(server.clientFeatures.maxRemapOps, 64);
  await client.dmaMap({ address: 0, size: 4096 });
  const file = fds.open('frontend');
  const before = fds.openCount;
  const done = server.remapRegion(3, [map(0, 4096, file), map(8192, 4096, file, 4096)]);
  const read = server.dmaRead(0, 4);
  // Replies go on while a remap is being applied; commands behind it wait.
  t.is((await client.regionRead(7, 0, 4)).length, 4);
  t.deepEqual(seen, ['3: map 0,map 8192']);
  finishHandler();
  await done;
  await read;
  t.deepEqual(seen, ['3: map 0,map 8192', 'applied', 'read']);
  t.deepEqual(labels, ['frontend', 'frontend']);
  t.is(fds.openCount, before, 'one fd came, and was closed');
  fds.close(file);
  t.is(finish(), 0);
  t.deepEqual(fds.errors, []);
});

test('a refusal by the handler is the server’s error', async (t) => {
  const failures = [
    new VfioUserError('EEXIST', 'occupied'),
    Object.assign(new Error('mmap'), { code: 'ENOMEM' }),
    new Error('?'),
  ];
  const options: VfioUserClientOptions = {
    regionRemap: () => {
      throw failures.shift() ?? new Error('none left');
    },
  };
  const { server, fds, finish } = await connected(options);
  const fd = fds.open();
  for (const code of ['EEXIST', 'ENOMEM', 'EFAULT']) {
    await t.throwsAsync(server.remapRegion(3, [map(0, 4096, fd)]), { code });
  }
  fds.close(fd);
  t.is(finish(), 0);
});

test('the connection ends while a remap is being applied', async (t) => {
  const { client, server, fds, finish } = await connected({
    regionRemap: () => new Promise((resolve) => setTimeout(resolve, 20)),
  });
  const fd = fds.open();
  const done = server.remapRegion(3, [map(0, 4096, fd)]);
  const waiting = server.remapRegion(3, [map(4096, 4096, fd)]);
  client.close();
  await t.throwsAsync(done, { code: 'ENOTCONN' });
  await t.throwsAsync(waiting, { code: 'ENOTCONN' });
  await new Promise((resolve) => setTimeout(resolve, 40));
  fds.close(fd);
  t.is(finish(), 0);
  t.deepEqual(fds.errors, []);
});

test('a server that floods a busy client loses its connection', async (t) => {
  const closed: string[] = [];
  const { client, server, fds, finish } = await connected({
    regionRemap: () => new Promise<void>(() => undefined),
    limits: { maxDeferred: 3 },
    onClosed: (reason) => closed.push(reason),
  });
  const fd = fds.open();
  const results = Array.from({ length: 6 }, () => server.remapRegion(3, [map(0, 4096, fd)]));
  for (const { status } of await Promise.allSettled(results)) t.is(status, 'rejected');
  t.deepEqual(closed, ['FLOODED']);
  t.true(client.closed);
  fds.close(fd);
  finish();
  // The one whose handler never ends keeps its fd; the four that waited do not.
  t.is(fds.openCount, 1);
});

/** Payloads of bad commands: argsz, flags, region, count, then entries of 40 bytes. */
const entry = (op: string, prot: string, rest: string): string =>
  `${op}000000 ${prot}000000 ${rest}`;
const good = entry(
  '01',
  '03',
  '0000000000000000 0010000000000000 0000000000000000 00000000 00000000',
);
const badCommands: readonly (readonly [string, string, number])[] = [
  ['cut short', '10000000 00000000 04000000', 0],
  ['argsz beside its size', `39000000 00000000 04000000 01000000 ${good}`, 1],
  ['flags', `38000000 01000000 04000000 01000000 ${good}`, 1],
  ['no operations', '10000000 00000000 04000000 00000000', 0],
  ['more operations than bytes', `38000000 00000000 04000000 02000000 ${good}`, 1],
  [
    'an unknown operation',
    `38000000 00000000 04000000 01000000 ${entry('03', '03', good.slice(18))}`,
    1,
  ],
  ['no protection', `38000000 00000000 04000000 01000000 ${entry('01', '00', good.slice(18))}`, 1],
  [
    'unknown protection',
    `38000000 00000000 04000000 01000000 ${entry('01', '07', good.slice(18))}`,
    1,
  ],
  [
    'an unmap with protection',
    `38000000 00000000 04000000 01000000 ${entry('02', '03', good.slice(18))}`,
    0,
  ],
  ['no fd', `38000000 00000000 04000000 01000000 ${good}`, 0],
  ['an fd that nothing uses', `38000000 00000000 04000000 01000000 ${good}`, 2],
  [
    'an unaligned offset',
    `38000000 00000000 04000000 01000000 ${entry('01', '03', '0100000000000000 0010000000000000 0000000000000000 00000000 00000000')}`,
    1,
  ],
  [
    'a length of 0',
    `38000000 00000000 04000000 01000000 ${entry('01', '03', '0000000000000000 0000000000000000 0000000000000000 00000000 00000000')}`,
    1,
  ],
  [
    'a reserved field',
    `38000000 00000000 04000000 01000000 ${entry('01', '03', '0000000000000000 0010000000000000 0000000000000000 00000000 01000000')}`,
    1,
  ],
];

for (const [name, payload, fdCount] of badCommands) {
  test(`the client refuses a bad command: ${name}`, async (t) => {
    const { VfioUserClient } = await import('../src/index.js');
    const { ScriptedTransport } = await import('./scripted-transport.js');
    const transport = new ScriptedTransport();
    const client = new VfioUserClient(transport, { regionRemap: () => t.fail('not to be called') });
    const connecting = client.connect();
    const data = ascii('{"capabilities":{"max_msg_fds":16,"region_remap":true}}\0');
    transport.feed(concat(hex('0100 0100 4c000000 01000000 00000000 0000 0000'), data));
    await connecting;
    transport.sent.length = 0;
    const body = hex(payload);
    const header = hex('0700 0180 00000000 00000000 00000000');
    Buffer.from(header.buffer).writeUInt32LE(16 + body.length, 4);
    transport.message(
      concat(header, body),
      Array.from({ length: fdCount }, () => 'fd'),
    );
    await new Promise((resolve) => setImmediate(resolve));
    t.is(toHex(transport.take()), '07000180100000002100000016000000');
    t.is(transport.fds.openCount, 0);
    client.close();
  });
}

test('applyRemap: in order, all or nothing', (t) => {
  const start = applyRemap([], [map(0, MIB, 1), map(2 * MIB, MIB, 2)], 4 * MIB);
  t.deepEqual(start, [
    { offset: 0, length: MIB },
    { offset: 2 * MIB, length: MIB },
  ]);
  const moved = applyRemap(start, [unmap(0, MIB), map(0, 2 * MIB, 3)], 4 * MIB);
  t.deepEqual(moved[0], { offset: 0, length: 2 * MIB });
  t.deepEqual(applyRemap(moved, [unmap(0, 4 * MIB)], 4 * MIB), []);
  const cases: readonly (readonly [readonly RemapOp[], string])[] = [
    [[map(MIB / 2, MIB, 1)], 'EEXIST'],
    [[map(MIB, MIB, 1), map(MIB, 4096, 1)], 'EEXIST'],
    [[unmap(MIB, MIB)], 'ENOENT'],
    [[unmap(0, MIB / 2)], 'EINVAL'],
    [[unmap(4096, 4 * MIB - 4096)], 'EINVAL'],
    [[map(4 * MIB, 4096, 1)], 'EINVAL'],
    [[map(3 * MIB, 2 * MIB, 1)], 'EINVAL'],
    [[unmap(0, MIB), unmap(0, MIB)], 'ENOENT'],
  ];
  for (const [ops, code] of cases) {
    t.throws(() => applyRemap(start, ops, 4 * MIB), { code }, JSON.stringify(ops));
  }
  t.is(start.length, 2, 'the given list is not changed');
});
