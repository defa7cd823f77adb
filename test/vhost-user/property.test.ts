import test from 'ava';
import fc from 'fast-check';

import { VvuError } from '../../src/errors.js';
import {
  backendMessages,
  describeMessageBytes,
  encodeFrame,
  FrameParser,
  frontendMessages,
  type ByteOrder,
  type MessageDescriptor,
} from '../../src/vhost-user/index.js';

const descriptors: readonly MessageDescriptor[] = [
  ...Object.values(frontendMessages),
  ...Object.values(backendMessages),
];
const order = fc.constantFrom<ByteOrder>('LE', 'BE');

test('decoders answer any bytes with a value that encodes back, or a coded error', (t) => {
  const message = fc.constantFrom(...descriptors);
  const payload = fc.oneof(
    fc.uint8Array({ maxLength: 320 }),
    // Mostly zero bytes of the right size get past the checks.
    fc.tuple(message, fc.uint8Array({ maxLength: 8 })).map(([{ request }, head]) => {
      const bytes = new Uint8Array(request.minSize);
      bytes.set(head.subarray(0, bytes.length));
      return bytes;
    }),
  );
  fc.assert(
    fc.property(message, payload, order, (descriptor, bytes, byteOrder) => {
      for (const codec of [descriptor.request, descriptor.replyPayload]) {
        try {
          const value = codec.decode(bytes, byteOrder);
          const again = codec.encode(value, byteOrder);
          t.deepEqual(codec.decode(again, byteOrder), value);
          t.is(typeof codec.describe(value), 'string');
        } catch (error) {
          t.true(error instanceof VvuError && error.scope === 'request', String(error));
        }
      }
    }),
    { numRuns: 3000 },
  );
  t.pass();
});

test('the parser gives out or gives back each fd exactly once, whatever comes', (t) => {
  const good = fc
    .tuple(fc.integer({ min: 1, max: 44 }), fc.uint8Array({ maxLength: 40 }))
    .map(([request, payload]) => encodeFrame({ request }, payload, 'LE'));
  const chunk = fc.record({
    bytes: fc.oneof(good, fc.uint8Array({ maxLength: 30 })),
    fds: fc.integer({ min: 0, max: 9 }),
    cut: fc.integer({ min: 0, max: 60 }),
  });
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 12 }), (chunks) => {
      const parser = new FrameParser('LE');
      const given: number[] = [];
      const seen: number[] = [];
      let next = 100;
      for (const { bytes, fds, cut } of chunks) {
        const mine = Array.from({ length: fds }, () => next++);
        given.push(...mine);
        try {
          seen.push(...parser.push(bytes.subarray(0, cut), mine).flatMap((frame) => frame.fds));
          seen.push(...parser.push(bytes.subarray(cut)).flatMap((frame) => frame.fds));
        } catch (error) {
          t.true(error instanceof VvuError && error.scope === 'peer', String(error));
          seen.push(...parser.takeFds());
        }
      }
      seen.push(...parser.takeFds());
      t.deepEqual(
        [...seen].sort((a, b) => a - b),
        given,
      );
    }),
    { numRuns: 2000 },
  );
});

test('any bytes have a text form', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), order, (bytes, byteOrder) => {
      t.is(typeof describeMessageBytes(bytes, byteOrder), 'string');
    }),
  );
});
