import { spawnSync } from 'node:child_process';
import { AsyncLocalStorage } from 'node:async_hooks';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { native } from '../../src/native.js';
import { openFds, temporaryDirectory, until, vfioMessage, vfioUser } from './helpers.js';

const directory = temporaryDirectory();
test.after.always(() => {
  rmSync(directory, { recursive: true, force: true });
});

function relayThreads(): number {
  return readdirSync('/proc/self/task').filter(
    (id) => readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim() === 'vvu-relay',
  ).length;
}

function mappings(): number {
  return readFileSync('/proc/self/maps', 'utf8').split('memfd:open-handles').length - 1;
}

for (const mode of ['terminate', 'exit', 'throw', 'busy']) {
  test.serial(`a worker may end with everything open: ${mode}`, async (t) => {
    const before = openFds();
    for (let round = 0; round < 5; round++) {
      const path = join(directory, `${mode}-${round}`);
      const worker = new Worker(new URL('./fixtures/open-handles.js', import.meta.url), {
        workerData: { mode, path },
      });
      const ended = new Promise((resolve) => worker.once('exit', resolve));
      worker.on('error', (error) => {
        t.is(mode, 'throw', String(error));
      });
      await new Promise((resolve) => worker.once('message', resolve));
      t.true(existsSync(path));
      if (mode === 'terminate' || mode === 'busy') void worker.terminate();
      else worker.postMessage('end');
      await ended;
      t.false(existsSync(path));
      t.is(relayThreads(), 0);
      t.is(mappings(), 0);
    }
    await until(() => openFds() === before);
    t.pass();
  });
}

test.serial('the relay thread outlives the worker that started it', async (t) => {
  const worker = new Worker(new URL('./fixtures/open-handles.js', import.meta.url), {
    workerData: { mode: 'terminate', path: join(directory, 'shared-relay') },
  });
  await new Promise((resolve) => worker.once('message', resolve));
  t.is(relayThreads(), 1);
  const source = native.createEventFd();
  const target = native.createEventFd();
  const relay = native.relayEventFd(source, target);
  await worker.terminate();
  t.is(relayThreads(), 1);
  native.signalEventFd(source);
  await until(() => native.readEventFd(target) === 1);
  relay.close();
  t.is(relayThreads(), 0);
  native.closeFd(source);
  native.closeFd(target);
});

test.serial('what handlers throw is an uncaughtException, and everything goes on', (t) => {
  const script = fileURLToPath(new URL('./fixtures/throwing.js', import.meta.url));
  const path = join(directory, 'throwing');
  const handled = spawnSync(process.execPath, [script, path, 'handled'], { encoding: 'utf8' });
  t.is(handled.stderr, '');
  t.deepEqual(handled.stdout.trim().split('\n').sort(), [
    'closed',
    'message 1',
    'message 2',
    'onConnection',
    'onPoisoned',
    'onSignal',
    'writable',
  ]);
  t.is(handled.status, 0);
  const unhandled = spawnSync(process.execPath, [script, path], { encoding: 'utf8' });
  t.is(unhandled.signal, null);
  t.is(unhandled.status, 1);
  t.regex(unhandled.stderr, /Error: (on(Connection|Poisoned|Signal)|message 1)/);
});

test.serial('callbacks run in the async context of their object, and run microtasks', async (t) => {
  const storage = new AsyncLocalStorage<string>();
  const seen: (string | undefined)[] = [];
  const order: string[] = [];
  const [socket, peer] = native.socketPair();
  storage.run('socket', () => {
    socket.start(vfioUser, {
      message(bytes) {
        seen.push(storage.getStore());
        order.push(`message ${bytes.readUInt16LE(0)}`);
        void Promise.resolve().then(() => order.push('microtask'));
      },
      closed() {
        seen.push(storage.getStore());
      },
    });
  });
  const fd = native.createEventFd();
  const watch = storage.run('watch', () =>
    native.watchEventFd(fd, () => seen.push(storage.getStore())),
  );
  peer.send(vfioMessage(1));
  peer.send(vfioMessage(2));
  await until(() => order.length === 4);
  t.deepEqual(order, ['message 1', 'microtask', 'message 2', 'microtask']);
  native.signalEventFd(fd);
  await until(() => seen.length === 3);
  peer.close();
  await until(() => seen.length === 4);
  t.deepEqual(seen, ['socket', 'socket', 'watch', 'socket']);
  watch.close();
  native.closeFd(fd);
});

test.serial('a process ends when nothing is open, and stays while something is', (t) => {
  const script = fileURLToPath(new URL('./fixtures/loop-life.js', import.meta.url));
  const run = (what: string): string | null =>
    spawnSync(process.execPath, [script, what], { timeout: 1500 }).signal;
  t.is(run('closed'), null);
  t.is(run('mapping'), null);
  t.is(run('watch'), 'SIGTERM');
  t.is(run('socket'), 'SIGTERM');
});
