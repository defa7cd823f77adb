import { spawnSync } from 'node:child_process';
import { ftruncateSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { native } from '../../src/native.js';
import type { NativeMemory } from '../../src/native.js';
import { codeOf, Recorder, temporaryDirectory, turns, until, vfioUser } from './helpers.js';

const directory = temporaryDirectory();
test.after.always(() => {
  rmSync(directory, { recursive: true, force: true });
});

const PAGE = 4096;
let files = 0;

interface Shrinking {
  readonly memory: NativeMemory;
  /** Calls of `onPoisoned`. */
  calls: number;
  truncate(size: number): void;
}

/** A mapped file of four pages full of 0x5a that somebody else can shrink. */
function shrinking(writable = true): Shrinking {
  const path = join(directory, `file-${files++}`);
  const fd = native.openFile(path, { writable: true, create: 4 * PAGE });
  const filler = native.map(fd, { offset: 0, length: 4 * PAGE, writable: true });
  filler.fill(0, 4 * PAGE, 0x5a);
  filler.release();
  const result: Shrinking = {
    calls: 0,
    memory: native.map(fd, {
      offset: 0,
      length: 4 * PAGE,
      writable,
      onPoisoned: () => (result.calls += 1),
    }),
    truncate: (size) => {
      ftruncateSync(fd, size);
    },
  };
  return result;
}

async function expectPoisoned(t: ExecutionContext, shrunk: Shrinking): Promise<void> {
  t.true(shrunk.memory.poisoned);
  await until(() => shrunk.calls > 0);
  await turns();
  t.is(shrunk.calls, 1);
}

test.serial('reads past a shrunk file give zeros; before it the bytes stay', async (t) => {
  const shrunk = shrinking();
  const { memory } = shrunk;
  shrunk.truncate(2 * PAGE);
  t.is(memory.read(2 * PAGE - 1, 1)[0], 0x5a);
  t.false(memory.poisoned);
  const bytes = memory.read(0, 4 * PAGE);
  t.true(bytes.subarray(0, 2 * PAGE).every((byte) => byte === 0x5a));
  t.true(bytes.subarray(2 * PAGE).every((byte) => byte === 0));
  await expectPoisoned(t, shrunk);
  memory.write(3 * PAGE, Buffer.from([1]));
  t.is(memory.read(3 * PAGE, 1)[0], 1);
  memory.release();
  t.true(memory.poisoned);
});

const accesses: Record<string, (memory: NativeMemory) => void> = {
  read: (memory) => memory.read(2 * PAGE, 1),
  readInto: (memory) => {
    memory.readInto(PAGE, new Uint8Array(2 * PAGE));
  },
  write: (memory) => {
    memory.write(3 * PAGE, Buffer.alloc(100));
  },
  fill: (memory) => {
    memory.fill(0, 4 * PAGE, 1);
  },
  copyFrom: (memory) => {
    memory.copyFrom(memory, 3 * PAGE, 0, PAGE);
  },
  loadU16: (memory) => memory.loadU16(4 * PAGE - 2),
  loadU32: (memory) => memory.loadU32(4 * PAGE - 4),
  storeU16: (memory) => {
    memory.storeU16(3 * PAGE, 1);
  },
  storeU32: (memory) => {
    memory.storeU32(3 * PAGE, 1);
  },
  'a view': (memory) => memory.view(3 * PAGE, 16)[5],
  'Atomics on a view': (memory) => Atomics.add(memory.view(3 * PAGE, 16), 0, 1),
};

for (const [name, access] of Object.entries(accesses)) {
  test.serial(`${name} survives a file that shrank`, async (t) => {
    const shrunk = shrinking();
    shrunk.truncate(PAGE);
    access(shrunk.memory);
    await expectPoisoned(t, shrunk);
    t.is(shrunk.memory.read(4 * PAGE - 1, 1)[0], name === 'fill' ? 1 : 0);
    shrunk.memory.release();
  });
}

function sum(view: Uint8Array): number {
  let result = 0;
  for (const byte of view) result += byte;
  return result;
}

test.serial('compiled code that reads and writes a view goes on', async (t) => {
  const shrunk = shrinking();
  const view = shrunk.memory.view(0, 4 * PAGE);
  let hot = 0;
  for (let i = 0; i < 2000; i++) hot += sum(view);
  t.is(hot, 2000 * 4 * PAGE * 0x5a);
  shrunk.truncate(PAGE);
  t.is(sum(view), PAGE * 0x5a);
  view.fill(2);
  t.is(sum(view), 4 * PAGE * 2);
  shrunk.truncate(0);
  // The first page faults now, and the zeros begin there.
  t.is(sum(view), 0);
  await expectPoisoned(t, shrunk);
  shrunk.memory.release();
});

test.serial('read-only mappings stay read-only', async (t) => {
  const shrunk = shrinking(false);
  shrunk.truncate(0);
  t.is(shrunk.memory.read(PAGE, 1)[0], 0);
  t.is(
    codeOf(() => {
      shrunk.memory.write(0, Buffer.alloc(1));
    }),
    'EACCES',
  );
  await expectPoisoned(t, shrunk);
  shrunk.memory.release();
});

test.serial('a file that grows again does not come back', (t) => {
  const shrunk = shrinking();
  shrunk.truncate(PAGE);
  t.is(shrunk.memory.read(PAGE, 1)[0], 0);
  shrunk.truncate(4 * PAGE);
  shrunk.memory.write(PAGE, Buffer.from([7]));
  t.is(shrunk.memory.read(PAGE, 1)[0], 7);
  shrunk.memory.release();
});

test.serial('only the mapping that faulted is poisoned', async (t) => {
  // More than one chunk of the registry.
  const all = Array.from({ length: 200 }, () => shrinking());
  for (const each of all) each.truncate(PAGE);
  for (const [index, each] of all.entries()) {
    if (index % 2 === 0) each.memory.read(PAGE, 1);
    else each.memory.read(PAGE - 1, 1);
  }
  await until(() => all.filter(({ calls }) => calls > 0).length === 100);
  await turns();
  for (const [index, { memory, calls }] of all.entries()) {
    t.is(memory.poisoned, index % 2 === 0);
    t.is(calls, index % 2 === 0 ? 1 : 0);
    memory.release();
  }
});

test.serial('a message may be sent from a view whose file shrank', async (t) => {
  const shrunk = shrinking();
  const [socket, peer] = native.socketPair();
  const recorder = new Recorder();
  peer.start(vfioUser, recorder);
  const view = shrunk.memory.view(PAGE - 32, 64);
  view.fill(1);
  view.set([0, 0, 0, 0, 64, 0, 0, 0]);
  shrunk.truncate(PAGE);
  t.true(socket.send(view));
  await recorder.count(1);
  const bytes = recorder.messages[0]?.bytes ?? Buffer.alloc(0);
  t.is(bytes.length, 64);
  t.is(bytes[31], 1);
  t.is(bytes[32], 0);
  socket.close();
  peer.close();
  shrunk.memory.release();
});

test.serial('fast regions survive a window whose file shrank', async (t) => {
  const shrunk = shrinking();
  const [socket, client] = native.socketPair();
  const regions = native.createFastRegions();
  regions.mapWindow(0, 0, 4 * PAGE, shrunk.memory, 0);
  const server = new Recorder();
  socket.attachFastRegions(regions);
  socket.start(vfioUser, server);
  const replies = new Recorder();
  client.start(vfioUser, replies);
  shrunk.truncate(PAGE);
  // REGION_READ (9) of 8 bytes at 0x0ffc of region 0: half of them are gone.
  client.send(
    Buffer.from(
      '01000900200000000000000000000000' + 'fc0f000000000000' + '00000000' + '08000000',
      'hex',
    ),
  );
  await replies.count(1);
  t.is(replies.messages[0]?.bytes.subarray(32).toString('hex'), '5a5a5a5a00000000');
  await expectPoisoned(t, shrunk);
  t.deepEqual(server.calls, []);
  socket.close();
  client.close();
  shrunk.memory.release();
});

test.serial('in a worker thread, which is told on its own loop', async (t) => {
  const worker = new Worker(new URL('./fixtures/sigbus-worker.js', import.meta.url), {
    workerData: directory,
  });
  const result = await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  t.deepEqual(result, { first: 0x5a, second: 0, poisoned: true, calls: 1 });
  await worker.terminate();
});

test.serial('other SIGBUS signals reach the handler that was there before', (t) => {
  const script = fileURLToPath(new URL('./fixtures/sigbus-chain.js', import.meta.url));
  const fatal = spawnSync(process.execPath, [script, 'default'], { encoding: 'utf8' });
  t.is(fatal.stdout.trim(), 'repaired');
  t.is(fatal.signal, 'SIGBUS');
  const handled = spawnSync(process.execPath, [script, 'handler'], { encoding: 'utf8' });
  t.is(handled.stdout.trim(), 'repaired\nhandled');
  t.is(handled.status, 0);
});
