import test from 'ava';
import fc from 'fast-check';
import { STATUS_TRANSITIONS, writeStatus } from '../../src/virtio/status.js';

/** Bits as virtio 1.3 §2.1 numbers them, written down anew. */
const ACK = 1;
const DRIVER = 2;
const DRIVER_OK = 4;
const FEATURES_OK = 8;
const NEEDS_RESET = 64;
const FAILED = 128;

const yes = () => true;
const no = () => false;

test('the sequence of §3.1.1, a bit at a time', (t) => {
  let status = 0;
  for (const [bit, expected] of [
    [ACK, 1],
    [DRIVER, 3],
    [FEATURES_OK, 11],
    [DRIVER_OK, 15],
  ] as const) {
    const write = writeStatus(status, status | bit, yes);
    t.deepEqual(write, { status: expected, edges: bit, refused: [] });
    status = write.status;
  }
});

test('several new bits at once are taken in the order of the sequence', (t) => {
  t.deepEqual(writeStatus(0, 15, yes), { status: 15, edges: 15, refused: [] });
  const refused = writeStatus(0, 15, no);
  t.is(refused.status, 3);
  t.is(refused.refused.length, 2);
});

for (const [current, written, status, what] of [
  [0, DRIVER, 0, 'DRIVER without ACKNOWLEDGE'],
  [ACK, ACK | FEATURES_OK, ACK, 'FEATURES_OK without DRIVER'],
  [3, 3 | DRIVER_OK, 3, 'DRIVER_OK without FEATURES_OK'],
  [15, 0x0b, 15, 'clearing DRIVER_OK'],
  [11, 8, 11, 'clearing ACKNOWLEDGE and DRIVER'],
  [3, 3 | NEEDS_RESET, 3, 'NEEDS_RESET from the driver'],
  [3, 3 | 16, 3, 'reserved bit 4'],
  [3, 3 | 32, 3, 'reserved bit 5'],
  [3 | FAILED, 11 | FAILED, 3 | FAILED, 'FEATURES_OK after FAILED'],
  [3 | NEEDS_RESET, 11, 3 | NEEDS_RESET, 'FEATURES_OK while the device needs a reset'],
  [11 | NEEDS_RESET, 15, 11 | NEEDS_RESET, 'DRIVER_OK while the device needs a reset'],
] as const) {
  test(`refused: ${what}`, (t) => {
    const write = writeStatus(current, written, yes);
    t.is(write.status, status);
    t.is(write.edges, 0);
    t.is(write.refused.length, 1);
  });
}

test('FAILED may be set at any time, and NEEDS_RESET survives a driver that does not know it', (t) => {
  for (const current of [0, 1, 3, 11, 15, 15 | NEEDS_RESET]) {
    t.is(writeStatus(current, current | FAILED, no).status, current | FAILED);
  }
  const write = writeStatus(15 | NEEDS_RESET, 15, yes);
  t.deepEqual(write, { status: 15 | NEEDS_RESET, edges: 0, refused: [] });
});

test('the device is asked about features only when FEATURES_OK may be set, and once', (t) => {
  let asked = 0;
  const ask = () => ++asked > 0;
  writeStatus(0, FEATURES_OK, ask);
  writeStatus(11, 11, ask);
  t.is(asked, 0);
  writeStatus(3, 15, ask);
  t.is(asked, 1);
});

test('each row has a clause, and its own bit', (t) => {
  t.is(new Set(STATUS_TRANSITIONS.map(({ bit }) => bit)).size, 5);
  for (const { clause } of STATUS_TRANSITIONS) t.regex(clause, /^§/);
});

test('whatever is written, no bit is lost and DRIVER_OK never comes without FEATURES_OK', (t) => {
  const byte = fc.integer({ min: 1, max: 255 });
  fc.assert(
    fc.property(fc.array(byte), fc.array(fc.boolean()), (writes, answers) => {
      let status = 0;
      for (const value of writes) {
        const next = writeStatus(status, value, () => answers.pop() ?? false);
        if ((next.status & status) !== status) return false;
        if (next.edges !== (next.status & ~status)) return false;
        if ((next.status & NEEDS_RESET) !== 0) return false;
        if ((next.status & DRIVER_OK) !== 0 && (next.status & FEATURES_OK) === 0) return false;
        status = next.status;
      }
      return true;
    }),
  );
  t.pass();
});
