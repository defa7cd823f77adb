import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import test from 'ava';
import { native } from '../../src/native.js';
import { codeOf, openFds, turns, until } from './helpers.js';

/** Names of this process's threads. */
function threads(): string[] {
  return readdirSync('/proc/self/task').map((id) =>
    readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim(),
  );
}

const relayThreads = (): number => threads().filter((name) => name === 'vvu-relay').length;

test.serial('signals count, and reading takes the count', (t) => {
  const fd = native.createEventFd();
  t.is(native.readEventFd(fd), 0);
  native.signalEventFd(fd);
  native.signalEventFd(fd);
  t.is(native.readEventFd(fd), 2);
  t.is(native.readEventFd(fd), 0);
  native.closeFd(fd);
  t.is(
    codeOf(() => {
      native.signalEventFd(fd);
    }),
    'EBADF',
  );
  t.is(
    codeOf(() => native.readEventFd(fd)),
    'EBADF',
  );
});

test.serial('checkEventFd makes eventfds non-blocking and refuses the rest', (t) => {
  const memfd = native.createMemfd('no-eventfd', 4096);
  t.is(
    codeOf(() => {
      native.checkEventFd(memfd);
    }),
    'BAD_FD_TYPE',
  );
  t.is(
    codeOf(() => native.watchEventFd(memfd, () => undefined)),
    'BAD_FD_TYPE',
  );
  t.is(
    codeOf(() => native.relayEventFd(memfd, memfd)),
    'BAD_FD_TYPE',
  );
  t.is(
    codeOf(() => {
      native.checkEventFd(99_999);
    }),
    'EBADF',
  );
  native.closeFd(memfd);
  const fd = native.createEventFd();
  clearNonBlocking(fd);
  native.checkEventFd(fd);
  t.is(flagsOf(fd) & 0o4000, 0o4000);
  native.closeFd(fd);
});

function flagsOf(fd: number): number {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
  return Number.parseInt(/flags:\s+(\d+)/.exec(info)?.[1] ?? '0', 8);
}

/** What a hostile peer can do: the flag belongs to the description that both share. */
function clearNonBlocking(fd: number): void {
  const script = 'import fcntl; fcntl.fcntl(0, fcntl.F_SETFL, 0)';
  execFileSync('python3', ['-c', script], { stdio: [fd, 'ignore', 'inherit'] });
}

/** Fills the counter to the last value that a write can reach. */
function fill(fd: number): void {
  const script = 'import os; os.write(1, (2**64 - 2).to_bytes(8, "little"))';
  execFileSync('python3', ['-c', script], { stdio: ['ignore', fd, 'inherit'] });
}

test.serial('a full counter is signalled, and blocks nobody', (t) => {
  const fd = native.createEventFd();
  fill(fd);
  native.signalEventFd(fd);
  clearNonBlocking(fd);
  t.is(flagsOf(fd) & 0o4000, 0);
  native.signalEventFd(fd);
  t.is(native.readEventFd(fd), 2 ** 64);
  t.is(native.readEventFd(fd), 0);
  native.closeFd(fd);
});

test.serial('watches call back with the count, until closed', async (t) => {
  const before = openFds();
  const fd = native.createEventFd();
  const counts: number[] = [];
  const watch = native.watchEventFd(fd, (count) => counts.push(count));
  native.signalEventFd(fd);
  native.signalEventFd(fd);
  await until(() => counts.length === 1);
  t.deepEqual(counts, [2]);
  native.signalEventFd(fd);
  await until(() => counts.length === 2);
  watch.close();
  watch.close();
  native.signalEventFd(fd);
  await turns();
  t.deepEqual(counts, [2, 1]);
  t.is(native.readEventFd(fd), 1);
  native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial('a watch owns a duplicate', async (t) => {
  const fd = native.createEventFd();
  const other = native.dupFd(fd);
  let calls = 0;
  const watch = native.watchEventFd(fd, () => (calls += 1));
  native.closeFd(fd);
  native.signalEventFd(other);
  await until(() => calls === 1);
  watch.close();
  native.closeFd(other);
  t.pass();
});

test.serial('watches closed by another one in the same turn stay silent', async (t) => {
  const fds = Array.from({ length: 10 }, () => native.createEventFd());
  let calls = 0;
  const watches = fds.map((fd) =>
    native.watchEventFd(fd, () => {
      calls += 1;
      for (const watch of watches) watch.close();
    }),
  );
  for (const fd of fds) native.signalEventFd(fd);
  await turns();
  t.is(calls, 1);
  for (const fd of fds) native.closeFd(fd);
});

test.serial('a burst on one eventfd does not starve the others', async (t) => {
  const busy = native.createEventFd();
  const quiet = native.createEventFd();
  let bursts = 0;
  const first = native.watchEventFd(busy, () => {
    bursts += 1;
    native.signalEventFd(busy);
  });
  native.signalEventFd(busy);
  await until(() => bursts > 100);
  let heard = false;
  let timers = 0;
  const second = native.watchEventFd(quiet, () => (heard = true));
  const timer = setInterval(() => (timers += 1), 1);
  native.signalEventFd(quiet);
  await until(() => heard && timers > 3);
  clearInterval(timer);
  first.close();
  second.close();
  native.closeFd(busy);
  native.closeFd(quiet);
  t.pass();
});

test.serial('hundreds of watches share one poll', async (t) => {
  const before = openFds();
  const fds = Array.from({ length: 300 }, () => native.createEventFd());
  const heard = new Set<number>();
  const watches = fds.map((fd, index) => native.watchEventFd(fd, () => heard.add(index)));
  // The fd, its duplicate, and one epoll for all.
  t.is(openFds(), before + 2 * 300 + 1);
  for (const fd of fds) native.signalEventFd(fd);
  await until(() => heard.size === 300);
  for (const watch of watches) watch.close();
  for (const fd of fds) native.closeFd(fd);
  t.is(openFds(), before);
});

test.serial('the relay passes signals on, in one thread that ends with the last binding', (t) => {
  const before = openFds();
  t.is(relayThreads(), 0);
  const pairs = Array.from({ length: 20 }, () => ({
    source: native.createEventFd(),
    target: native.createEventFd(),
  }));
  const relays = pairs.map(({ source, target }) => native.relayEventFd(source, target));
  t.is(relayThreads(), 1);
  for (const { source, target } of pairs) {
    native.signalEventFd(source);
    // Busy waiting: the loop has no part in it.
    const deadline = Date.now() + 5000;
    while (native.readEventFd(target) === 0) if (Date.now() > deadline) return t.fail();
  }
  for (const relay of relays.slice(1)) relay.close();
  t.is(relayThreads(), 1);
  relays[0]?.close();
  relays[0]?.close();
  t.is(relayThreads(), 0);
  for (const { source, target } of pairs) {
    native.closeFd(source);
    native.closeFd(target);
  }
  t.is(openFds(), before);
});

test.serial(
  'what was signalled before the binding is passed on, after close nothing',
  async (t) => {
    const source = native.createEventFd();
    const target = native.createEventFd();
    for (let round = 0; round < 200; round++) {
      native.signalEventFd(source);
      const relay = native.relayEventFd(source, target);
      if (round % 2 === 0) await until(() => native.readEventFd(target) > 0);
      relay.close();
      native.readEventFd(target);
      native.signalEventFd(source);
      if (round % 20 === 0) await turns();
      t.is(native.readEventFd(target), 0);
    }
    native.closeFd(source);
    native.closeFd(target);
  },
);

test.serial('a full target does not block the relay', async (t) => {
  const source = native.createEventFd();
  const full = native.createEventFd();
  const other = native.createEventFd();
  const target = native.createEventFd();
  fill(full);
  const relays = [native.relayEventFd(source, full), native.relayEventFd(other, target)];
  clearNonBlocking(full);
  clearNonBlocking(source);
  native.signalEventFd(source);
  await turns();
  native.signalEventFd(other);
  await until(() => native.readEventFd(target) === 1);
  for (const relay of relays) relay.close();
  for (const fd of [source, full, other, target]) native.closeFd(fd);
  t.pass();
});
