import test from 'ava';
import fc from 'fast-check';
import { FakeFds, MessageParser, VfioUserError, type RawMessage } from '../src/index.js';
import { concat, hex, toHex } from './hex.js';

const A = hex('0100 0a00 14000000 00000000 00000000 aabbccdd');
const B = hex('0200 0d00 10000000 10000000 00000000');
const C = hex('0300 0900 12000000 01000000 00000000 eeff');

function drain(parser: MessageParser): RawMessage[] {
  const messages: RawMessage[] = [];
  for (let next = parser.next(); next !== undefined; next = parser.next()) messages.push(next);
  return messages;
}

test('headers field by field', (t) => {
  const parser = new MessageParser(64, () => t.fail());
  parser.push(hex('3412 7856 10000000 31000000 efbeadde'), [7]);
  t.true(parser.midMessage);
  t.deepEqual(parser.next()?.header, {
    id: 0x1234,
    command: 0x5678,
    size: 16,
    flags: 0x31,
    error: 0xdeadbeef,
  });
  t.false(parser.midMessage);
});

test('any chunking gives the same messages, and each its own fds', (t) => {
  const messages = [A, B, C, A, C, B];
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 3 }), {
        minLength: messages.length,
        maxLength: messages.length,
      }),
      fc.boolean(),
      (cuts, pullAtEnd) => {
        const fds = new FakeFds();
        const parser = new MessageParser(64, (fd) => fds.close(fd));
        const received: RawMessage[] = [];
        messages.forEach((message, i) => {
          const own = [fds.open(`m${i}a`), fds.open(`m${i}b`)];
          let offset = 0;
          for (const length of [...(cuts[i] ?? []), message.length]) {
            parser.push(message.subarray(offset, offset + length), offset === 0 ? own : []);
            offset = Math.min(message.length, offset + length);
            if (offset === message.length) break;
          }
          if (!pullAtEnd) received.push(...drain(parser));
        });
        received.push(...drain(parser));
        t.deepEqual(
          received.map(({ payload }) => toHex(payload)),
          messages.map((message) => toHex(message.subarray(16))),
        );
        t.deepEqual(
          received.map(({ fds: own }) => own.map((fd) => fds.label(fd))),
          messages.map((_, i) => [`m${i}a`, `m${i}b`]),
        );
        t.false(parser.midMessage);
      },
    ),
    { numRuns: 200 },
  );
});

test('the fds of a chunk belong to the first message that starts in it', (t) => {
  const fds = new FakeFds();
  const parser = new MessageParser(64, (fd) => fds.close(fd));
  parser.push(A.subarray(0, 18), [fds.open('a')]);
  parser.push(concat(A.subarray(18), B, C), [fds.open('b')]);
  const labels = drain(parser).map((message) => message.fds.map((fd) => fds.label(fd)));
  t.deepEqual(labels, [['a'], ['b'], []]);
});

test('a size below 16 or above the limit cannot be followed', (t) => {
  for (const [text, code] of [
    ['0100 0a00 0f000000 00000000 00000000', 'EBADMSG'],
    ['0100 0a00 41000000 00000000 00000000', 'EMSGSIZE'],
  ] as const) {
    const fds = new FakeFds();
    const parser = new MessageParser(64, (fd) => fds.close(fd));
    parser.push(hex(text), [fds.open(), fds.open()]);
    const error = t.throws(() => parser.next(), { instanceOf: VfioUserError });
    t.is(error.code, code);
    parser.dispose();
    t.is(fds.openCount, 0);
  }
});

test('a size of exactly the limit is accepted', (t) => {
  const parser = new MessageParser(20, () => undefined);
  parser.push(A);
  t.is(parser.next()?.payload.length, 4);
});

test('a peer that sends single bytes does not pin its chunks', (t) => {
  const parser = new MessageParser(1 << 20, () => undefined);
  const header = hex('0100 0a00 00000400 00000000 00000000');
  parser.push(header);
  t.is(parser.next(), undefined);
  // Each chunk is taken over into one buffer at once: nothing is left that grows with the chunks.
  const begin = performance.now();
  for (let i = 0; i < 0x40000 - 17; i += 1) {
    parser.push(new Uint8Array(1));
    parser.next();
  }
  t.is(parser.next(), undefined);
  parser.push(new Uint8Array([9]));
  t.is(parser.next()?.payload.at(-1), 9);
  t.true(performance.now() - begin < 5000);
});
