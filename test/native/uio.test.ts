import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../src/native.js';
import { codeOf, openFds, until } from './helpers.js';

/*
 * A fifo in the place of /dev/uioN: its reads are 4 bytes, too, as long as that is what is written.
 */
function makeFifo(t: { teardown(body: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'vvu-uio-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'uio0');
  execFileSync('mkfifo', [path]);
  return path;
}

const COUNT = Buffer.from([1, 0, 0, 0]);

test.serial('each interrupt of a UIO device signals the eventfd, until it is closed', async (t) => {
  const uio = openSync(makeFifo(t), constants.O_RDWR);
  const target = native.createEventFd();
  const relay = native.relayUio(uio, target);
  for (let i = 0; i < 3; i++) {
    writeSync(uio, COUNT);
    let seen = 0;
    await until(() => (seen += native.readEventFd(target)) > 0);
    t.is(seen, 1);
  }
  relay.close();
  relay.close();
  writeSync(uio, COUNT);
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(native.readEventFd(target), 0);
  closeSync(uio);
  native.closeFd(target);
});

test.serial('a UIO device that goes away signals once', async (t) => {
  const before = openFds();
  const path = makeFifo(t);
  const uio = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY);
  const target = native.createEventFd();
  const relay = native.relayUio(uio, target);
  closeSync(writer);
  await until(() => native.readEventFd(target) === 1);
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.is(native.readEventFd(target), 0, 'the thread does not look again');
  relay.close();
  closeSync(uio);
  native.closeFd(target);
  t.is(openFds(), before);
});

test.serial('what cannot be waited for is refused, and nothing stays open', (t) => {
  const before = openFds();
  const memfd = native.createMemfd('no uio', 4096);
  const target = native.createEventFd();
  t.is(
    codeOf(() => native.relayUio(memfd, target)),
    'EPERM',
  );
  t.is(
    codeOf(() => native.relayUio(target, memfd)),
    'BAD_FD_TYPE',
  );
  t.is(
    codeOf(() => native.relayUio(99_999, target)),
    'EBADF',
  );
  native.closeFd(memfd);
  native.closeFd(target);
  t.is(openFds(), before);
});
