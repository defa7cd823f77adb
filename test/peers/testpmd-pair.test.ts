import test, { type ExecutionContext } from 'ava';
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hugepagesMissing, reserveHugepages } from '../support/hugepages.js';
import { memoryFile, Testpmd, testpmdMissing, type Memory } from '../../src/frontend/testpmd.js';
import { circulate, exchange, type Traffic } from '../../src/frontend/testpmd-traffic.js';

/*
 * testpmd against testpmd, with nothing of ours between them: the runner is sound, the machine
 * able, and DPDK behaves as the tests with our device assume.
 */
const missing = testpmdMissing();
if (missing !== undefined) console.log(`testpmd pair skipped: ${missing}`);
const peerTest = missing === undefined ? test.serial : test.serial.skip;
const hugeTest = hugepagesMissing() === undefined ? peerTest : test.serial.skip;

function socketPath(t: ExecutionContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'vvu-pair-'));
  t.teardown(() => {
    rmSync(dir, { recursive: true });
  });
  return join(dir, 'vhost.sock');
}

async function exists(path: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!existsSync(path)) {
    if (Date.now() > deadline) throw new Error(`${path} does not appear`);
    await sleep(20);
  }
}

/** Start the side that listens, then the other, and let the backend echo. */
async function pair(
  t: ExecutionContext,
  frontendListens: boolean,
  queues: number,
  memory?: Memory,
): Promise<{ frontend: Testpmd; backend: Testpmd; socket: string }> {
  const socket = socketPath(t);
  const options = { socket, queues };
  const own = memory === undefined ? options : { ...options, memory };
  const startFrontend = (): Testpmd => Testpmd.frontend({ ...own, server: frontendListens });
  const startBackend = (): Testpmd => Testpmd.backend({ ...options, server: !frontendListens });
  const first = frontendListens ? startFrontend() : startBackend();
  t.teardown(() => first.stop());
  await exists(socket);
  const second = frontendListens ? startBackend() : startFrontend();
  t.teardown(() => second.stop());
  const [frontend, backend] = frontendListens ? [first, second] : [second, first];
  await Promise.all([frontend.ready(), backend.ready()]);
  await backend.echo();
  return { frontend, backend, socket };
}

function report(t: ExecutionContext, what: string, traffic: Traffic): void {
  const rate = (traffic.sent / traffic.seconds / 1e6).toFixed(2);
  const { sent, received, lost, dropped } = traffic;
  t.log(
    `${what}: sent ${String(sent)}, received ${String(received)}, lost ${String(lost)}, ` +
      `dropped ${String(dropped)}; ${rate} million/s`,
  );
  t.is(lost, 0);
  t.is(dropped, 0);
  t.is(traffic.receivedBytes, traffic.sentBytes);
}

for (const listens of [false, true])
  for (const queues of [1, 4])
    peerTest(`frontend as ${listens ? 'server' : 'client'}, ${String(queues)}q`, async (t) => {
      const { frontend, backend } = await pair(t, listens, queues);
      const once = await exchange(frontend);
      t.is(once.sent, 128 * queues);
      report(t, 'exchange', once);
      const traffic = await circulate(frontend, { milliseconds: 1000 });
      t.true(traffic.sent > 10_000);
      report(t, 'circulate', traffic);
      t.is((await backend.stats()).rxPackets, once.sent + traffic.sent);
      t.is(await frontend.stop(), 0);
      t.is(await backend.stop(), 0);
    });

peerTest('a frontend that listens takes a new backend and goes on', async (t) => {
  const { frontend, backend, socket } = await pair(t, true, 4);
  report(t, 'first backend', await circulate(frontend, { milliseconds: 300 }));
  t.is(await backend.kill(), 'SIGKILL');
  await frontend.link(false);
  const next = Testpmd.backend({ socket, server: false, queues: 4 });
  t.teardown(() => next.stop());
  await next.ready();
  await next.echo();
  await frontend.link(true);
  report(t, 'second backend', await circulate(frontend, { milliseconds: 300 }));
});

peerTest('a frontend that nobody connects to can be stopped', async (t) => {
  const socket = socketPath(t);
  const frontend = Testpmd.frontend({ socket, server: true });
  await exists(socket);
  t.is(await frontend.stop(), 1);
});

peerTest('a failure to start is reported with its log', async (t) => {
  const frontend = Testpmd.frontend({ socket: socketPath(t), server: false });
  await t.throwsAsync(frontend.ready(), { message: /No such file or directory/ });
  await frontend.stop();
});

hugeTest('a hugepage file made before DPDK is its only memory, twice', async (t) => {
  const huge = reserveHugepages(64);
  t.teardown(() => huge.release());
  const memory = { kind: 'file', mib: 64, dir: huge.dir, prefix: 'window' } as const;
  const file = openSync(memoryFile(memory), 'wx', 0o600);
  ftruncateSync(file, 64 << 20);
  const { ino, dev } = fstatSync(file);
  for (const run of ['first run', 'second run']) {
    const { frontend, backend } = await pair(t, false, 1, memory);
    report(t, run, await circulate(frontend, { milliseconds: 300 }));
    const mapped = readFileSync(`/proc/${String(backend.pid)}/maps`, 'utf8')
      .split('\n')
      .filter((line) => line.includes(huge.dir));
    t.is(mapped.length, 1);
    t.true(mapped[0]?.includes(` ${String(ino)} `));
    await frontend.stop();
    await backend.stop();
    const after = statSync(memoryFile(memory));
    t.deepEqual([after.dev, after.ino, after.size], [dev, ino, 64 << 20]);
  }
  closeSync(file);
  await huge.release();
  t.false(existsSync(huge.dir));
});
