import test from 'ava';
import fc from 'fast-check';
import { FakeFds, VfioUserClient } from '../src/index.js';
import { leaked, scriptedServer } from './harness.js';
import { hex, toHex } from './hex.js';
import { malformed } from './malformed-cases.js';
import { ScriptedTransport } from './scripted-transport.js';
import { furtherExchanges, qemuSession } from './vectors.js';

/** A header with a size that fits, mostly, and a payload of small numbers. */
const message = fc
  .record({
    id: fc.nat({ max: 5 }),
    command: fc.oneof(fc.nat({ max: 20 }), fc.constant(0x8001), fc.nat({ max: 0xffff })),
    flags: fc.oneof(fc.constantFrom(0, 1, 0x10, 0x21), fc.nat({ max: 0xff })),
    payload: fc.uint8Array({ maxLength: 96 }),
    wordValues: fc.array(fc.constantFrom(0, 1, 2, 4, 7, 0x14, 0x20, 0x24, 0x1000, 0xffffffff), {
      maxLength: 12,
    }),
    lie: fc.oneof({ weight: 20, arbitrary: fc.constant(0) }, fc.integer({ min: -40, max: 40 })),
    fds: fc.nat({ max: 3 }),
  })
  .map(({ id, command, flags, payload, wordValues, lie, fds }) => {
    const words = new Uint8Array(Uint32Array.from(wordValues).buffer);
    const body = payload.length % 2 === 0 ? words : payload;
    const bytes = Buffer.alloc(16 + body.length);
    bytes.writeUInt16LE(id, 0);
    bytes.writeUInt16LE(command, 2);
    bytes.writeUInt32LE((bytes.length + lie) >>> 0, 4);
    bytes.writeUInt32LE(flags, 8);
    bytes.set(body, 16);
    return { bytes: new Uint8Array(bytes), fds };
  });

/** Messages that mean something, so that the random ones meet some state. */
const known = fc.constantFrom(
  ...[...qemuSession, ...furtherExchanges].map(({ request, fds }) => ({
    bytes: request,
    fds: fds?.length ?? 0,
  })),
  ...malformed.map(({ bytes, fds }) => ({ bytes, fds: fds ?? 0 })),
);

const traffic = fc.array(fc.oneof(message, known), { maxLength: 40 });
const cuts = fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 50 });

/** Feeds messages in chunks of the given sizes; the fds of each come with its first byte. */
function feed(
  transport: ScriptedTransport,
  messages: readonly { readonly bytes: Uint8Array; readonly fds: number }[],
  sizes: readonly number[],
): void {
  let cut = 0;
  for (const { bytes, fds } of messages) {
    let own = Array.from({ length: fds }, () => transport.fds.open('sent'));
    for (let offset = 0; offset < bytes.length;) {
      const size = sizes[cut % sizes.length] ?? 1;
      cut += 1;
      transport.feed(bytes.subarray(offset, offset + size), own);
      own = [];
      offset += size;
    }
  }
}

test('server: no traffic throws, leaks an fd, or closes one twice', (t) => {
  fc.assert(
    fc.property(traffic, cuts, fc.boolean(), (messages, sizes, negotiated) => {
      const scripted = scriptedServer({}, negotiated);
      feed(scripted.transport, messages, sizes);
      const left = leaked(scripted);
      return left === 0 && scripted.fds.errors.length === 0;
    }),
    { numRuns: 1500 },
  );
  t.pass();
});

test('server: the same bytes give the same replies, however they are cut', (t) => {
  fc.assert(
    fc.property(traffic, cuts, (messages, sizes) => {
      const outcomes = [sizes, [1 << 20]].map((chunking) => {
        const scripted = scriptedServer();
        feed(scripted.transport, messages, chunking);
        const outcome = { replies: toHex(scripted.transport.take()), calls: scripted.device.calls };
        leaked(scripted);
        return outcome;
      });
      t.deepEqual(outcomes[0], outcomes[1]);
    }),
    { numRuns: 500 },
  );
});

test('server: raw bytes', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ bytes: fc.uint8Array({ maxLength: 64 }), fds: fc.nat({ max: 2 }) })),
      (chunks) => {
        const scripted = scriptedServer();
        for (const { bytes, fds } of chunks) {
          scripted.transport.message(
            bytes,
            Array.from({ length: fds }, () => 'raw'),
          );
        }
        return leaked(scripted) === 0 && scripted.fds.errors.length === 0;
      },
    ),
    { numRuns: 1000 },
  );
  t.pass();
});

test('client: no traffic throws, leaks an fd, or leaves a promise behind', async (t) => {
  await fc.assert(
    fc.asyncProperty(traffic, cuts, async (messages, sizes) => {
      const transport = new ScriptedTransport();
      const memory = { read: (_: number, n: number) => new Uint8Array(n), write: () => undefined };
      const client = new VfioUserClient(transport, { memory, regionRemap: () => undefined });
      const connecting = client.connect();
      transport.feed(hex('0100 0100 14000000 01000000 00000000 0000 0000'));
      await connecting;
      const asked = Promise.allSettled([
        client.deviceInfo(),
        client.regionInfo(2),
        client.regionIoFds(0),
        client.regionRead(0, 0, 4),
      ]);
      feed(transport, messages, sizes);
      await new Promise((resolve) => setImmediate(resolve));
      client.close();
      for (const result of await asked) {
        if (result.status !== 'fulfilled' || !('index' in result.value || 'fds' in result.value)) {
          continue;
        }
        // fds of good answers belong to the caller.
        const { value } = result as { value: { fd?: number; fds?: readonly number[] } };
        for (const fd of value.fds ?? (value.fd === undefined ? [] : [value.fd])) {
          transport.fds.close(fd);
        }
      }
      await new Promise((resolve) => setImmediate(resolve));
      return transport.fds.openCount === 0 && transport.fds.errors.length === 0;
    }),
    { numRuns: 500 },
  );
  t.pass();
});

test('fake fds notice what a kernel would', (t) => {
  const fds = new FakeFds();
  const fd = fds.open('a');
  const copy = fds.dup(fd);
  fds.signal(copy);
  t.is(fds.signals(fd), 1);
  fds.close(fd);
  t.is(fds.label(copy), 'a');
  fds.close(fd);
  fds.signal(fd);
  t.is(fds.errors.length, 2);
  fds.close(copy);
  t.is(fds.openCount, 0);
  t.deepEqual([fds.opened, fds.closed], [2, 2]);
});
