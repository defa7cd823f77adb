import test from 'ava';
import { DoorbellRegisters, Doorbells, doorbellCount } from '../../src/device/doorbells.js';
import { Kicks, NotificationRegisters } from '../../src/device/kicks.js';
import { NO_VECTOR } from '../../src/device/ports.js';
import { FakeFds } from './fakes.js';

/** A host that only keeps account of what is bound. */
function account() {
  const bound = new Map<string, number>();
  const bind = (key: string, fd: number) => {
    bound.set(key, fd);
    return { close: () => bound.delete(key) };
  };
  return { bound, bind };
}

function doorbells(max = 4) {
  const fds = new FakeFds();
  const { bound, bind } = account();
  const bells = new Doorbells(fds.native, { bind: (i, fd) => bind(String(i), fd) }, max);
  return { fds, bound, bells };
}

test('call doorbells come first, then the log, then err', (t) => {
  const { bells, fds } = doorbells(4);
  t.is(doorbellCount(4), 9);
  bells.bind('call', 3, fds.eventfd());
  bells.bind('log', 0, fds.eventfd());
  bells.bind('err', 0, fds.eventfd());
  bells.bind('err', 3, fds.eventfd());
  t.deepEqual(bells.bound, [3, 4, 5, 8]);
});

test('a new eventfd replaces the old one, and clear closes all', (t) => {
  const { bells, fds, bound } = doorbells();
  bells.bind('call', 1, fds.eventfd());
  const second = fds.eventfd();
  bells.bind('call', 1, second);
  t.deepEqual([...fds.open.keys()], [second]);
  t.is(bound.get('1'), second);
  bells.bind('call', 1, undefined);
  t.is(fds.open.size, 0);
  bells.bind('call', 2, fds.eventfd());
  bells.clear();
  t.is(fds.open.size, 0);
  t.is(bound.size, 0);
});

for (const [name, vring, makeFd, code] of [
  ['a vring index that is too large', 4, (f: FakeFds) => f.eventfd(), 'VRING_INDEX'],
  ['a vring index of 255', 255, (f: FakeFds) => f.eventfd(), 'VRING_INDEX'],
  ['an fd that is no eventfd', 0, (f: FakeFds) => f.file(4096), 'BAD_EVENTFD'],
] as const) {
  test(`${name} is refused and its fd closed`, (t) => {
    const { bells, fds } = doorbells();
    t.like(
      t.throws(() => bells.bind('call', vring, makeFd(fds))),
      { code, scope: 'request' },
    );
    const { host } = kickHost();
    const kicks = new Kicks(fds.native, host, 4);
    t.like(
      t.throws(() => kicks.bind(vring, makeFd(fds))),
      { code, scope: 'request' },
    );
    t.is(fds.open.size, 0);
  });
}

test('a write rings the doorbells it touches, whatever its value; reads give zeros', (t) => {
  const { bells, fds } = doorbells();
  const [zero, one] = [fds.eventfd(), fds.eventfd()];
  bells.bind('call', 0, zero);
  bells.bind('call', 1, one);
  const registers = new DoorbellRegisters(bells, doorbellCount(4), 2);
  t.is(registers.size, 18);
  registers.write(0, Buffer.from([0, 0]));
  t.deepEqual(fds.signals, [zero]);
  registers.write(2, Buffer.from([1]));
  t.deepEqual(fds.signals, [zero, one]);
  registers.write(0, Buffer.alloc(18));
  t.deepEqual(fds.signals, [zero, one, zero, one], 'unbound doorbells are silent');
  const target = Buffer.alloc(18, 0xee);
  registers.read(0, target);
  t.true(target.every((byte) => byte === 0));
});

function kickHost(vectorCount = 8) {
  const bound = new Map<number, number>();
  const host = {
    vectorCount,
    bind: (fd: number, vector: number) => {
      bound.set(fd, vector);
      return { close: () => bound.delete(fd) };
    },
  };
  return { bound, host };
}

test('a kick and its vector meet in either order', (t) => {
  const fds = new FakeFds();
  const { bound, host } = kickHost();
  const kicks = new Kicks(fds.native, host, 4);
  const fd = fds.eventfd();
  kicks.setVector(0, 5);
  kicks.bind(0, fd);
  t.is(bound.get(fd), 5);
  kicks.setVector(0, 6);
  t.is(bound.get(fd), 6);
  const other = fds.eventfd();
  kicks.bind(1, other);
  t.is(bound.get(other), NO_VECTOR);
  kicks.setVector(1, 2);
  t.is(bound.get(other), 2);
});

test('a frontend that leaves takes its kicks, and the vectors stay until reset', (t) => {
  const fds = new FakeFds();
  const { bound, host } = kickHost();
  const kicks = new Kicks(fds.native, host, 4);
  kicks.setVector(2, 3);
  kicks.bind(2, fds.eventfd());
  kicks.clear();
  t.is(bound.size, 0);
  t.is(fds.open.size, 0);
  t.is(kicks.vector(2), 3);
  kicks.reset();
  t.is(kicks.vector(2), NO_VECTOR);
});

test('notification registers select a vring and assign a vector that exists', (t) => {
  const fds = new FakeFds();
  const kicks = new Kicks(fds.native, kickHost().host, 4);
  const registers = new NotificationRegisters(kicks);
  const image = () => {
    const target = Buffer.alloc(4);
    registers.read(0, target);
    return target.toString('hex');
  };
  t.is(image(), '0000ffff');
  registers.write(0, Buffer.from([3, 0]));
  registers.write(2, Buffer.from([7, 0]));
  t.is(image(), '03000700');
  registers.write(2, Buffer.from([8, 0]));
  t.is(image(), '0300ffff', 'vector 8 of 8 does not exist');
  registers.write(0, Buffer.from([1, 0, 2, 0]));
  t.is(image(), '01000200');
  registers.write(0, Buffer.from([0xff, 0xff]));
  t.is(image(), 'ffffffff', 'a vring that does not exist has no vector');
  registers.write(2, Buffer.from([1, 0]));
  t.is(image(), 'ffffffff');
});
