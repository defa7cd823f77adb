import type { ExecutionContext } from 'ava';
import {
  memoryFile,
  Testpmd,
  testpmdMissing,
  type Memory,
  type TestpmdOptions,
} from '../../src/frontend/testpmd.js';
import { circulate, exchange, type Traffic } from '../../src/frontend/testpmd-traffic.js';
import { declareTests } from '../support/declare-tests.js';
import { startEchoBackend, type EchoBackend } from '../support/echo-backend.js';
import { hugepagesMissing, reserveHugepages } from '../support/hugepages.js';
import { IdleFds } from '../support/idle-fds.js';
import { DPDK_PACKAGES, ensurePackages } from '../support/packages.js';
import { until } from '../support/until.js';
import { DeviceProcess } from '../vm/device-process.js';

/*
 * Debian's dpdk-testpmd is the frontend, `vvu device` a process of its own, and the backend behind
 * it our poll-mode echo over vfio-user. Packets go both ways through the window.
 */
const unavailable = await ensurePackages(DPDK_PACKAGES);
const dpdkTest = declareTests(unavailable ?? testpmdMissing() ?? hugepagesMissing());

const MEMORY_MIB = 64;

interface Setup {
  readonly device: DeviceProcess;
  readonly backend: EchoBackend;
  readonly frontend: Testpmd;
}

/** Starts all three; who listens on the vhost-user socket starts first. */
async function setUp(
  t: ExecutionContext,
  options: { server: boolean; queues: number; memory: Memory; window: string; remap?: boolean },
): Promise<Setup> {
  const { server, queues, memory, window, remap = false } = options;
  const mode = server ? 'client' : 'server';
  const args = ['--vhost-user-mode', mode];
  const device = await DeviceProcess.start({ layout: 'split', window, args });
  t.teardown(() => device.close());
  const backend = await startEchoBackend(device.vfioUser, {
    queuePairs: queues,
    regionRemap: remap,
  });
  t.teardown(() => backend.stop());
  const frontend = await startFrontend(t, { socket: device.vhostUser, server, queues, memory });
  return { device, backend, frontend };
}

async function startFrontend(t: ExecutionContext, options: TestpmdOptions): Promise<Testpmd> {
  const frontend = Testpmd.frontend(options);
  t.teardown(() => frontend.stop());
  await frontend.ready();
  await frontend.link(true);
  return frontend;
}

function check(t: ExecutionContext, what: string, traffic: Traffic): void {
  const { sent, received, lost, dropped, seconds } = traffic;
  const rate = Math.round(received / seconds);
  t.log(`${what}: sent ${sent}, received ${received}, lost ${lost}; ${rate} packets/s`);
  t.true(sent > 0);
  t.is(lost, 0);
  t.is(dropped, 0);
  t.is(traffic.receivedBytes, traffic.sentBytes);
}

/** Counts both ways exactly, and that each queue pair carried its share. */
async function movePackets(t: ExecutionContext, { backend, frontend }: Setup): Promise<void> {
  const once = await exchange(frontend);
  t.is(once.sent, 128 * frontend.queues);
  check(t, 'once', once);
  const steady = await circulate(frontend, { milliseconds: 1500 });
  check(t, 'steady state', steady);
  const { counters } = backend.echo;
  t.is(
    counters.reduce((sum, { packets }) => sum + packets, 0),
    once.sent + steady.sent,
  );
  for (const { packets, drops } of counters) {
    t.true(packets >= 128);
    t.is(drops, 0);
  }
}

for (const server of [false, true]) {
  for (const queues of [1, 4]) {
    const who = `testpmd ${server ? 'listens' : 'connects'}, ${queues} queue pairs`;

    dpdkTest(`${who}, its own memfd, trapped`, async (t) => {
      const memory: Memory = { kind: 'memfd', mib: 128 };
      const setup = await setUp(t, { server, queues, memory, window: 'size=1G' });
      t.false(setup.backend.driver.window.mapped(0, 4096));
      await movePackets(t, setup);
      await stopped(t, setup);
    });

    dpdkTest(`${who}, its hugepage file is the window's preset file`, async (t) => {
      const pages = reserveHugepages(MEMORY_MIB);
      t.teardown(() => pages.release());
      const memory = { kind: 'file', mib: MEMORY_MIB, dir: pages.dir, prefix: 'vvu' } as const;
      const window = `path=${memoryFile(memory)},size=${MEMORY_MIB}M`;
      const setup = await setUp(t, { server, queues, memory, window });
      t.true(setup.backend.driver.window.mapped(0, MEMORY_MIB * 2 ** 20));
      await movePackets(t, setup);
      await stopped(t, setup);
    });
  }
}

dpdkTest('its own memfd, mapped at run time (region_remap)', async (t) => {
  const memory: Memory = { kind: 'memfd', mib: 128 };
  const options = { server: false, queues: 4, memory, window: 'size=1G', remap: true };
  const setup = await setUp(t, options);
  t.true(setup.backend.driver.window.mapped(0, 4096));
  await movePackets(t, setup);
  await stopped(t, setup);
});

dpdkTest('a testpmd that is killed and started again finds the device ready', async (t) => {
  const memory: Memory = { kind: 'memfd', mib: 128 };
  const options = { server: false, queues: 1, memory, window: 'size=1G', remap: true };
  const { device, backend, frontend } = await setUp(t, options);
  const idle = new IdleFds(device);
  let current = frontend;
  for (let round = 0; round < 3; round++) {
    check(t, `round ${round}`, await exchange(current));
    await current.kill();
    await until(() => !backend.driver.connected, 'the end of the connection');
    if (round === 0) await idle.measure();
    t.is(await idle.settled(), idle.count);
    current = await startFrontend(t, { socket: device.vhostUser, server: false, memory });
  }
});

/** A clean end: the backend is told, and the window shows nothing of the frontend any more. */
async function stopped(t: ExecutionContext, { device, backend, frontend }: Setup): Promise<void> {
  await frontend.stop();
  await until(() => !backend.driver.connected, 'the end of the connection');
  await backend.stop();
  t.is(await device.stop(), 'status 0');
  t.false(device.hasSockets);
}
