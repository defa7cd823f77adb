import test from 'ava';
import fc from 'fast-check';
import { NetEcho } from '../../src/backends/net-echo.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { FakeDevice } from './fake-device.js';

const USER = 0x7f00_0000_0000n;

function frame(request: number, flags: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt32LE(request, 0);
  header.writeUInt32LE(flags, 4);
  header.writeUInt32LE(payload.length, 8);
  return Buffer.concat([header, payload]);
}

const words = (...values: bigint[]): Buffer => {
  const bytes = Buffer.alloc(8 * values.length);
  values.forEach((value, i) => bytes.writeBigUInt64LE(BigInt.asUintN(64, value), 8 * i));
  return bytes;
};

/** Numbers that mean something to a backend, and some that should not. */
const interesting = fc.oneof(
  fc.constantFrom(0n, 1n, 2n, 4n, 8n, 0x100n, 0x1000n, 0x10000n, 0x10_0000n, 1n << 53n, -1n),
  fc.bigInt({ min: 0n, max: 0xffffn }).map((offset) => USER + offset),
  fc.bigInt({ min: 0n, max: 0xfffn }).map((page) => USER + (page << 4n)),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
);
const payload = fc.oneof(
  fc.array(interesting, { maxLength: 7 }).map((values) => words(...values)),
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
);
const junk = fc
  .tuple(fc.integer({ min: 0, max: 46 }), fc.constantFrom(1, 9), payload)
  .map(([request, flags, bytes]) => frame(request, flags, bytes));

/** Messages that bring a ring nearly up, so that the junk between them meets a running backend. */
const setUp: readonly Buffer[] = [
  frame(2, 1, words((1n << 32n) | (1n << 30n) | (1n << 29n) | (1n << 28n) | (1n << 15n))),
  frame(16, 1, words(8n)),
  frame(5, 1, Buffer.concat([Buffer.from('0100000000000000', 'hex'), words(0n, 65536n, USER, 0n)])),
  ...[0, 1].flatMap((index) => {
    const base = USER + BigInt(index * 0x1000);
    const state = (num: number): Buffer => words(BigInt(index) | (BigInt(num) << 32n));
    return [
      frame(8, 1, state(8)),
      frame(9, 1, words(BigInt(index), base, base + 0x200n, base + 0x100n, 0n)),
      frame(13, 1, words(BigInt(index))),
      frame(12, 1, words(BigInt(index))),
      frame(18, 1, state(1)),
    ];
  }),
];

test('no message and no content of the rings makes the backend throw, loop or stay down', (t) => {
  let served = 0;
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 2, arbitrary: junk }, fc.constant(undefined)), {
        minLength: setUp.length,
        maxLength: 40,
      }),
      fc.array(fc.uint8Array({ minLength: 256, maxLength: 256 }), { minLength: 4, maxLength: 4 }),
      (messages, contents) => {
        const device = new FakeDevice();
        const driver = new VvuDriver(device, { statusIntervalMs: 0 });
        const echo = new NetEcho(1);
        const backend = new VhostUserBackend(driver, echo);
        driver.start();
        driver.poll();
        device.connect();
        driver.poll();
        let next = 0;
        for (const message of messages) {
          device.toDriver(message ?? setUp[next++ % setUp.length]!);
          driver.poll();
          device.fromDriver();
          if (device.linkStatus === 1) {
            device.connect();
            next = 0;
          }
          driver.poll();
          served = Math.max(served, backend.running.length);
          contents.forEach((bytes, i) => device.window.bytes.set(bytes, i * 0x800));
          // Small indices and counts are likelier to be accepted.
          for (const ring of [0, 0x1000]) {
            device.window.bytes.writeUInt16LE(contents[0]![0]! % 9, ring + 0x102);
          }
          const before = device.window.accesses;
          echo.poll();
          if (device.window.accesses - before > 100_000) return false;
        }
        // Whatever happened, the next frontend gets its answer.
        device.disconnect();
        driver.poll();
        device.connect();
        driver.poll();
        device.toDriver(frame(1, 1, Buffer.alloc(0)));
        driver.poll();
        return device.fromDriver().length === 1;
      },
    ),
    {
      numRuns: 400,
      // Both rings up once for certain: with chance alone it can stay at one.
      examples: [
        [setUp.map(() => undefined), Array.from({ length: 4 }, () => new Uint8Array(256))],
      ],
    },
  );
  t.is(served, 2, 'both rings ran at some time');
});
