import test, { type ExecutionContext } from 'ava';
import { FakeFds, IrqTable, VfioUserError } from '../src/index.js';

const NONE = 0x01;
const BOOL = 0x02;
const EVENTFD = 0x04;
const MASK = 0x08;
const UNMASK = 0x10;
const TRIGGER = 0x20;
const INTX = 0;
const MSIX = 1;
const MASKABLE_MSIX = 2;

function setup(t: ExecutionContext): {
  fds: FakeFds;
  table: IrqTable;
  changes: string[];
  /** Nothing is left open when the connection is over. */
  readonly finish: () => void;
  readonly set: (
    flags: number,
    index: number,
    start: number,
    count: number,
    fds?: number[],
    bools?: number[],
  ) => void;
} {
  const fds = new FakeFds();
  const changes: string[] = [];
  const table = new IrqTable(
    [
      { count: 1, flags: 7 },
      { count: 8, flags: 1 },
      { count: 8, flags: 3 },
    ],
    {
      signal: (fd) => fds.signal(fd),
      check: (fd) => {
        if (fds.label(fd) === 'no eventfd') throw new Error('wrong type');
      },
      close: (fd) => fds.close(fd),
      changed: (...range) => changes.push(range.join()),
      warn: (text) => t.fail(text),
    },
  );
  const finish = (): void => {
    table.close();
    t.is(fds.openCount, 0);
    t.deepEqual(fds.errors, []);
  };
  const set = (
    flags: number,
    index: number,
    start: number,
    count: number,
    passed: number[] = [],
    bools?: number[],
  ): void => {
    table.set({ flags, index, start, count, bools: bools && Uint8Array.from(bools) }, passed);
    t.is(passed.length, 0, 'the table has taken the fds');
  };
  return { fds, table, changes, set, finish };
}

test('trigger: eventfds are set, replaced and taken away', (t) => {
  const { fds, table, changes, set, finish } = setup(t);
  const [a, b, c] = [fds.open('a'), fds.open('b'), fds.open('c')];
  set(EVENTFD | TRIGGER, MSIX, 2, 2, [a, b]);
  t.is(table.eventFd(MSIX, 2, 'trigger'), a);
  t.true(table.trigger(MSIX, 3));
  t.is(fds.signals(b), 1);
  t.false(table.trigger(MSIX, 4), 'no eventfd');
  t.false(table.trigger(MSIX, 99), 'no vector');
  t.false(table.trigger(9, 0), 'no index');
  set(EVENTFD | TRIGGER, MSIX, 3, 1, [c]);
  t.is(fds.label(b), undefined, 'the replaced one was closed');
  set(EVENTFD | TRIGGER, MSIX, 2, 1);
  t.is(fds.label(a), undefined);
  t.false(table.trigger(MSIX, 2));
  t.deepEqual(changes, ['1,2,2', '1,3,1', '1,2,1']);
  finish();
});

test('trigger by the client: none and bool', (t) => {
  const { fds, set, finish } = setup(t);
  const eventfds = Array.from({ length: 4 }, () => fds.open());
  set(EVENTFD | TRIGGER, MSIX, 0, 4, [...eventfds]);
  set(NONE | TRIGGER, MSIX, 1, 2);
  t.deepEqual(
    eventfds.map((fd) => fds.signals(fd)),
    [0, 1, 1, 0],
  );
  set(BOOL | TRIGGER, MSIX, 0, 4, [], [1, 0, 0, 2]);
  t.deepEqual(
    eventfds.map((fd) => fds.signals(fd)),
    [1, 1, 1, 1],
  );
  finish();
});

test('mask and unmask: none, bool and eventfd', (t) => {
  const { fds, table, set, finish } = setup(t);
  const [trigger, mask, unmask] = [fds.open(), fds.open(), fds.open()];
  set(EVENTFD | TRIGGER, MASKABLE_MSIX, 5, 1, [trigger]);
  set(EVENTFD | MASK, MASKABLE_MSIX, 5, 1, [mask]);
  set(EVENTFD | UNMASK, MASKABLE_MSIX, 5, 1, [unmask]);
  set(BOOL | MASK, MASKABLE_MSIX, 4, 2, [], [0, 1]);
  t.false(table.masked(MASKABLE_MSIX, 4));
  t.true(table.masked(MASKABLE_MSIX, 5));
  t.is(fds.signals(mask), 1);
  set(NONE | MASK, MASKABLE_MSIX, 5, 1);
  t.is(fds.signals(mask), 1, 'masked already');
  t.false(table.trigger(MASKABLE_MSIX, 5));
  t.is(fds.signals(trigger), 0);
  set(BOOL | UNMASK, MASKABLE_MSIX, 5, 1, [], [0]);
  t.true(table.masked(MASKABLE_MSIX, 5));
  set(NONE | UNMASK, MASKABLE_MSIX, 5, 1);
  t.is(fds.signals(unmask), 1);
  t.is(fds.signals(trigger), 1, 'what came while masked fires once');
  set(NONE | UNMASK, MASKABLE_MSIX, 5, 1);
  t.is(fds.signals(trigger), 1);
  finish();
});

test('a trigger that was cleared while masked does not fire', (t) => {
  const { fds, table, set, finish } = setup(t);
  const trigger = fds.open();
  set(EVENTFD | TRIGGER, MASKABLE_MSIX, 0, 1, [trigger]);
  set(NONE | MASK, MASKABLE_MSIX, 0, 1);
  table.trigger(MASKABLE_MSIX, 0);
  table.clear(MASKABLE_MSIX, 0);
  set(NONE | UNMASK, MASKABLE_MSIX, 0, 1);
  t.is(fds.signals(trigger), 0);
  finish();
});

test('an automasked interrupt fires once per unmask', (t) => {
  const { fds, table, set, finish } = setup(t);
  const trigger = fds.open();
  set(EVENTFD | TRIGGER, INTX, 0, 1, [trigger]);
  t.true(table.trigger(INTX, 0));
  t.true(table.masked(INTX, 0));
  t.false(table.trigger(INTX, 0));
  t.is(fds.signals(trigger), 1);
  set(NONE | UNMASK, INTX, 0, 1);
  t.is(fds.signals(trigger), 2, 'the one that waited');
  t.true(table.masked(INTX, 0));
  set(NONE | UNMASK, INTX, 0, 1);
  t.is(fds.signals(trigger), 2);
  t.false(table.masked(INTX, 0));
  finish();
});

test('disabling an index closes all its eventfds and forgets its masks', (t) => {
  const { fds, table, changes, set, finish } = setup(t);
  set(EVENTFD | TRIGGER, MASKABLE_MSIX, 0, 2, [fds.open(), fds.open()]);
  set(EVENTFD | MASK, MASKABLE_MSIX, 1, 1, [fds.open()]);
  set(EVENTFD | TRIGGER, MSIX, 0, 1, [fds.open()]);
  set(NONE | MASK, MASKABLE_MSIX, 0, 2);
  set(NONE | TRIGGER, MASKABLE_MSIX, 0, 0);
  t.is(fds.openCount, 1, 'the other index keeps its own');
  t.false(table.masked(MASKABLE_MSIX, 0));
  t.is(changes.at(-1), '2,0,8');
  finish();
});

test('a refused request changes nothing and leaves the fds to the caller', (t) => {
  const { fds, table, changes, finish } = setup(t);
  const good = fds.open('good');
  table.set({ flags: EVENTFD | TRIGGER, index: MSIX, start: 0, count: 1, bools: undefined }, [
    good,
  ]);
  const passed = [fds.open('x'), fds.open('no eventfd')];
  const error = t.throws(
    () =>
      table.set(
        { flags: EVENTFD | TRIGGER, index: MSIX, start: 0, count: 2, bools: undefined },
        passed,
      ),
    { instanceOf: VfioUserError },
  );
  t.is(error.code, 'EINVAL');
  t.is(passed.length, 2);
  t.is(table.eventFd(MSIX, 0, 'trigger'), good);
  t.is(changes.length, 1);
  for (const fd of passed) fds.close(fd);
  finish();
});

test('an eventfd that cannot be signalled is reported, not thrown', (t) => {
  const warnings: string[] = [];
  const table = new IrqTable([{ count: 1, flags: 1 }], {
    signal: () => {
      throw new Error('gone');
    },
    check: () => undefined,
    close: () => undefined,
    changed: () => undefined,
    warn: (text) => warnings.push(text),
  });
  table.set({ flags: EVENTFD | TRIGGER, index: 0, start: 0, count: 1, bools: undefined }, [5]);
  t.false(table.trigger(0, 0));
  t.is(warnings.length, 1);
});
