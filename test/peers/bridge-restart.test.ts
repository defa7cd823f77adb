import { testpmdMissing, type Memory } from '../../src/frontend/testpmd.js';
import { exchange } from '../../src/frontend/testpmd-traffic.js';
import { declareTests } from '../support/declare-tests.js';
import { DPDK_PACKAGES, ensurePackages } from '../support/packages.js';
import { BridgeRig } from './bridge-rig.js';

/*
 * Each of the four processes is killed in turn and started again; the other three are left alone.
 * testpmd's virtio-user as a server takes a new connection by itself, and so do `vvu device` and
 * `vvu bridge`.
 */
const unavailable = await ensurePackages(DPDK_PACKAGES);
const dpdkTest = declareTests(unavailable ?? testpmdMissing());

const ROUNDS = 10;
type Part = 'backend' | 'bridge' | 'device' | 'frontend';
const PARTS: readonly Part[] = ['backend', 'bridge', 'device', 'frontend'];

dpdkTest('kill -9 and restart each process in turn: traffic resumes each time', async (t) => {
  const memory: Memory = { kind: 'memfd', mib: 128 };
  const options = { queues: 1, memory, window: 'size=1G', frontendListens: true };
  const rig = await BridgeRig.start(t, { ...options, backendListens: true });
  const times: Record<Part, number[]> = { backend: [], bridge: [], device: [], frontend: [] };
  /** Of a process when it first worked after its start, and now. */
  const usage = new Map<number, { part: Part; fds: number[]; mib: number[] }>();
  let packets = 0;

  async function check(what: string): Promise<void> {
    const traffic = await exchange(rig.frontend);
    t.is(traffic.sent, 128, what);
    t.is(traffic.lost, 0, what);
    packets += traffic.received;
    for (const part of ['bridge', 'device'] as const) {
      const { pid, descriptors, residentMib } = rig[part];
      const entry = usage.get(pid) ?? { part, fds: [], mib: [] };
      entry.fds.push(descriptors);
      entry.mib.push(residentMib);
      usage.set(pid, entry);
    }
  }

  async function restart(part: Part): Promise<void> {
    await rig[part].kill();
    const started = performance.now();
    if (part === 'backend') rig.backend = await rig.startBackend();
    else if (part === 'bridge') rig.bridge = await rig.startBridge();
    else if (part === 'device') rig.device = await rig.startDevice();
    else rig.frontend = await rig.startFrontend();
    await rig.frontend.link(true);
    times[part].push(performance.now() - started);
  }

  await check('at first');
  for (let round = 0; round < ROUNDS; round++) {
    for (const part of PARTS) {
      await restart(part);
      await check(`round ${round}, ${part}`);
    }
  }
  for (const part of PARTS) {
    const mean = times[part].reduce((sum, time) => sum + time, 0) / ROUNDS;
    t.log(`${part}: traffic ${mean.toFixed(0)} ms after its restart, on average`);
  }
  for (const { part, fds } of usage.values())
    t.is(new Set(fds).size, 1, `${part}: fds ${fds.join(' ')}`);
  t.log(`${packets} packets, none lost; fds as before in every process that lived on`);
});

dpdkTest(
  'a bridge and a device that outlive their backends and frontends do not grow',
  async (t) => {
    const memory: Memory = { kind: 'memfd', mib: 128 };
    const options = { queues: 4, memory, window: 'size=1G', frontendListens: true };
    const rig = await BridgeRig.start(t, { ...options, backendListens: true });
    const { bridge, device } = rig;
    const fds = [bridge.descriptors, device.descriptors];
    let mib: number[] = [];
    for (let round = 0; round < 6; round++) {
      for (const part of ['backend', 'frontend'] as const) {
        await rig[part].kill();
        if (part === 'backend') rig.backend = await rig.startBackend();
        else rig.frontend = await rig.startFrontend();
        await rig.frontend.link(true);
      }
      if (round === 1) mib = [bridge.residentMib, device.residentMib];
      if (round === 5) t.is((await exchange(rig.frontend)).lost, 0);
    }
    t.deepEqual([bridge.descriptors, device.descriptors], fds);
    const [before = 0, deviceBefore = 0] = mib;
    t.log(`bridge ${before.toFixed(1)} -> ${bridge.residentMib.toFixed(1)} MiB`);
    t.log(`device ${deviceBefore.toFixed(1)} -> ${device.residentMib.toFixed(1)} MiB`);
    t.true(bridge.residentMib - before < 8);
    t.true(device.residentMib - deviceBefore < 8);
  },
);
