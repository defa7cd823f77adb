import test from 'ava';
import fc from 'fast-check';
import { VvuError } from '../../src/errors.js';
import { SplitQueue, readChain, writeChain } from '../../src/virtio/split-queue.js';
import { DriverQueue, placeQueue, queueBytes } from '../../src/virtio/split-queue-driver.js';
import { FakeMemory } from './fake-memory.js';
import { RawRing } from './raw-ring.js';

const FEATURES = (1n << 28n) | (1n << 29n);

test('garbage in the rings gives coded errors and bounded work', (t) => {
  const garbage = fc.record({
    table: fc.uint8Array({ minLength: 128, maxLength: 128 }),
    avail: fc.uint8Array({ minLength: 22, maxLength: 22 }),
    // Small indices are likelier to lead somewhere than random ones.
    index: fc.integer({ min: 0, max: 10 }),
    flags: fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 8, maxLength: 8 }),
    next: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 8, maxLength: 8 }),
    tame: fc.boolean(),
  });
  fc.assert(
    fc.property(garbage, ({ table, avail, index, flags, next, tame }) => {
      const ring = new RawRing(8);
      ring.memory.bytes.set(table, 0x1000);
      ring.memory.bytes.set(avail, 0x2000);
      ring.availIndex(index);
      for (let i = 0; i < 8 && tame; i++) {
        const at = 0x1000 + 16 * i;
        ring.descriptor(
          i,
          BigInt(0x1000 + (table[16 * i] ?? 0) * 16),
          (table[16 * i + 8] ?? 0) * 16,
          flags[i] ?? 0,
          next[i] ?? 0,
        );
        ring.availEntry(i, ring.memory.bytes.readUInt16LE(at + 14) % 8);
      }
      const queue = new SplitQueue(ring.memory, ring.config, FEATURES);
      try {
        for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
          const readable = chain.readableLength;
          if (readable <= 0x10000) readChain(ring.memory, chain, 0x10000);
          queue.push(chain, 0);
          queue.flush();
        }
      } catch (error) {
        if (!(error instanceof VvuError && error.scope === 'device')) throw error;
      }
      // 10 buffers at most, each of at most 8 + 1024 descriptors.
      return ring.memory.accesses < 10 * 2200;
    }),
    { numRuns: 3000 },
  );
  t.pass();
});

interface Request {
  readonly readable: number[];
  readonly writable: number[];
}

const lengths = fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 3 });
const request: fc.Arbitrary<Request> = fc
  .record({ readable: lengths, writable: lengths })
  .filter(({ readable, writable }) => readable.length + writable.length > 0);

/** Fills `length` bytes so that each request has its own content. */
const pattern = (seed: number, length: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (seed * 31 + i) & 0xff));

test('what a driver queue sends, the device side receives, in any interleaving', (t) => {
  const SIZE = 8;
  const DATA = 0x1000;
  const SLOT = 4096;
  fc.assert(
    fc.property(
      fc.array(request, { minLength: 1, maxLength: 60 }),
      fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 40 }),
      fc.constantFrom(0n, FEATURES),
      (requests, script, features) => {
        const memory = new FakeMemory(DATA + 64 * SLOT);
        if (queueBytes(SIZE) > DATA) return false;
        const config = placeQueue(0, SIZE, 0);
        const driver = new DriverQueue<number>(memory, config, features);
        const device = new SplitQueue(memory, config, features);
        const done: number[] = [];
        let sent = 0;
        let received = 0;

        const send = (): void => {
          const next = requests[sent];
          if (next === undefined) return;
          let at = DATA + sent * SLOT;
          const place = (length: number): { iova: number; length: number } => {
            const segment = { iova: at, length };
            at += length;
            return segment;
          };
          const readable = next.readable.map(place);
          const writable = next.writable.map(place);
          const total = next.readable.reduce((sum, n) => sum + n, 0);
          memory.write(DATA + sent * SLOT, pattern(sent, total));
          if (driver.add(readable, writable, sent)) sent++;
          driver.publish();
        };
        const serve = (): void => {
          const chain = device.pop();
          if (chain === undefined) return;
          const expected = pattern(received, chain.readableLength);
          t.deepEqual(readChain(memory, chain, 4096), expected);
          const answer = pattern(received + 7, chain.writableLength);
          device.push(chain, writeChain(memory, chain, answer));
          received++;
          device.flush();
        };
        const collect = (): void => {
          const used = driver.poll();
          if (used === undefined) return;
          const sizes = requests[used.token];
          t.is(used.written, sizes?.writable.reduce((sum, n) => sum + n, 0) ?? -1);
          done.push(used.token);
        };
        const steps = [send, serve, collect, send];
        for (const step of script) steps[step]?.();
        while (done.length < requests.length) {
          send();
          serve();
          collect();
        }
        t.deepEqual(
          done,
          requests.map((_, i) => i),
        );
        t.is(driver.free, SIZE);
        return true;
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

test('no kick and no interrupt is ever lost between the two sides', (t) => {
  // Each side sleeps until it was notified; the run ends only if nobody sleeps for ever.
  fc.assert(
    fc.property(
      fc.constantFrom(0n, FEATURES),
      fc.array(fc.boolean(), { minLength: 20, maxLength: 200 }),
      (features, schedule) => {
        const memory = new FakeMemory(0x2000);
        const config = placeQueue(0, 4, 0);
        const driver = new DriverQueue<number>(memory, config, features);
        const device = new SplitQueue(memory, config, features);
        let kicked = true;
        let interrupted = true;
        let completed = 0;
        const runDevice = (): void => {
          if (!kicked) return;
          kicked = false;
          do {
            device.disableKicks();
            for (let chain = device.pop(); chain !== undefined; chain = device.pop()) {
              device.push(chain, 0);
            }
            if (device.flush()) interrupted = true;
          } while (device.enableKicks());
        };
        const runDriver = (): void => {
          if (!interrupted) return;
          interrupted = false;
          do {
            driver.disableInterrupts();
            while (driver.poll() !== undefined) completed++;
            while (driver.add([{ iova: 0x1000, length: 1 }], [], 0));
            if (driver.publish()) kicked = true;
          } while (driver.enableInterrupts());
        };
        for (const deviceFirst of schedule) (deviceFirst ? runDevice : runDriver)();
        const before = completed;
        for (let i = 0; i < 4; i++) {
          runDevice();
          runDriver();
        }
        return completed > before;
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});
