import test from 'ava';
import fc from 'fast-check';
import { IntervalTable } from '../src/index.js';

/** The same by brute force. */
class Model {
  intervals: { start: number; length: number; value: number }[] = [];

  insert(start: number, length: number, value: number): boolean {
    if (this.overlapping(start, length).length > 0) return false;
    this.intervals.push({ start, length, value });
    this.intervals.sort((a, b) => a.start - b.start);
    return true;
  }

  overlapping(start: number, length: number): { start: number }[] {
    return this.intervals.filter((i) => i.start < start + length && start < i.start + i.length);
  }
}

test('behaves as a list of intervals does', (t) => {
  const operation = fc.record({
    kind: fc.constantFrom('insert', 'insert', 'remove', 'query'),
    start: fc.integer({ min: 0, max: 3000 }),
    length: fc.integer({ min: 1, max: 20 }),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (operations) => {
      const table = new IntervalTable<number>();
      const model = new Model();
      operations.forEach(({ kind, start, length }, i) => {
        if (kind === 'insert') {
          t.is(table.insert(start, length, i), model.insert(start, length, i));
        } else if (kind === 'remove') {
          const expected = model.intervals.find((interval) => interval.start === start);
          t.deepEqual(table.remove(start), expected);
          model.intervals = model.intervals.filter((interval) => interval !== expected);
        } else {
          t.deepEqual([...table.overlapping(start, length)], model.overlapping(start, length));
          t.deepEqual(table.find(start), model.overlapping(start, 1)[0]);
          const covered = Array.from({ length }, (_, n) => model.overlapping(start + n, 1).length);
          t.is(
            table.covers(start, length),
            covered.every((n) => n === 1),
          );
        }
        t.is(table.size, model.intervals.length);
      });
      t.deepEqual([...table], model.intervals);
    }),
    { numRuns: 100 },
  );
});

test('refuses what overlaps by one byte, on both sides', (t) => {
  const table = new IntervalTable<string>();
  t.true(table.insert(100, 10, 'a'));
  t.false(table.insert(109, 1, 'b'));
  t.false(table.insert(91, 10, 'b'));
  t.false(table.insert(0, 1000, 'b'));
  t.false(table.insert(5, 0, 'empty'));
  t.true(table.insert(110, 1, 'c'));
  t.true(table.insert(99, 1, 'd'));
  t.deepEqual(
    [...table].map(({ value }) => value),
    ['d', 'a', 'c'],
  );
  t.true(table.covers(99, 12));
  t.false(table.covers(99, 13));
  t.false(table.covers(99, 12, (value) => value !== 'a'));
  t.is(table.remove(101), undefined);
  table.clear();
  t.is(table.find(100), undefined);
  t.is(table.firstOverlap(0, 1000), undefined);
});

for (const order of ['ascending', 'descending', 'scattered'] as const) {
  test(`65,535 mappings, ${order}`, (t) => {
    const count = 65_535;
    const table = new IntervalTable<number>();
    const key = (i: number): number =>
      order === 'ascending' ? i : order === 'descending' ? count - 1 - i : (i * 7919) % count;
    const begin = performance.now();
    for (let i = 0; i < count; i += 1) table.insert(key(i) * 4096, 4096, key(i));
    let found = 0;
    for (let i = 0; i < count; i += 1) {
      if (table.find(i * 4096 + 4095)?.value === i) found += 1;
    }
    t.is(found, count);
    t.is(table.size, count);
    for (let i = 0; i < count; i += 1) table.remove(key(i) * 4096);
    t.is(table.size, 0);
    // A table with an insertion that is linear in its size takes seconds on any machine.
    t.true(performance.now() - begin < 2000, `${performance.now() - begin} ms`);
  });
}
