import type { ExecutionContext } from 'ava';
import { memoryFile, testpmdMissing, type Memory } from '../../src/frontend/testpmd.js';
import { circulate, exchange } from '../../src/frontend/testpmd-traffic.js';
import { declareTests } from '../support/declare-tests.js';
import { hugepagesMissing, reserveHugepages } from '../support/hugepages.js';
import { DPDK_PACKAGES, ensurePackages } from '../support/packages.js';
import { BridgeRig, report } from './bridge-rig.js';

/*
 * Debian's dpdk-testpmd on both ends, unmodified: its vhost PMD is the backend behind `vvu bridge`,
 * its virtio-user the frontend of `vvu device`. The data path is between the two alone.
 */
const unavailable = await ensurePackages(DPDK_PACKAGES);
const dpdkTest = declareTests(unavailable ?? testpmdMissing() ?? hugepagesMissing());

const MEMORY_MIB = 64;

async function movePackets(t: ExecutionContext, rig: BridgeRig): Promise<void> {
  const { frontend, backend, bridge, device } = rig;
  const once = await exchange(frontend);
  t.is(once.sent, 128 * frontend.queues);
  report(t, 'once', once);
  const steady = await circulate(frontend, { milliseconds: 1500 });
  report(t, 'steady state', steady);
  t.is((await backend.stats()).rxPackets, once.sent + steady.sent);
  t.is(await frontend.stop(), 0);
  await bridge.until(() => bridge.log.includes('frontend left'), 'the end of the connection');
  t.is(await bridge.stop(), 'status 0');
  t.is(await device.stop(), 'status 0');
}

for (const queues of [1, 4]) {
  for (const backendListens of [true, false]) {
    const who = `${queues} queue pairs, the backend ${backendListens ? 'listens' : 'connects'}`;

    dpdkTest(`${who}, the frontend's own memfd (region_remap)`, async (t) => {
      const memory: Memory = { kind: 'memfd', mib: 128 };
      const options = { queues, memory, window: 'size=1G', frontendListens: false, backendListens };
      await movePackets(t, await BridgeRig.start(t, options));
    });

    dpdkTest(`${who}, the frontend's hugepage file is the window's preset file`, async (t) => {
      const pages = reserveHugepages(MEMORY_MIB);
      t.teardown(() => pages.release());
      const memory = { kind: 'file', mib: MEMORY_MIB, dir: pages.dir, prefix: 'vvu' } as const;
      const window = `path=${memoryFile(memory)},size=${MEMORY_MIB}M`;
      const options = { queues, memory, window, frontendListens: false, backendListens };
      await movePackets(t, await BridgeRig.start(t, options));
    });
  }
}
