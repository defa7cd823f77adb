import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Testpmd, testpmdMissing } from '../../src/frontend/testpmd.js';
import { circulate, exchange } from '../../src/frontend/testpmd-traffic.js';
import { available, declareTests } from '../support/declare-tests.js';
import { temporaryFolder } from '../support/temporary.js';
import { VvuProcess } from '../support/vvu-process.js';
import { DeviceProcess } from '../vm/device-process.js';
import { report } from './bridge-rig.js';
import { OpenVSwitch } from './openvswitch.js';
import { openVSwitchFiles } from '../support/openvswitch.js';

/*
 * Debian's Open vSwitch with DPDK, unmodified, is the backend of two devices: a port each, which one
 * process of `vvu bridge` serves. The frontends are DPDK's virtio-user, which listen, because they
 * reconnect only then.
 */
const { reason } = await available(openVSwitchFiles);
const ovsTest = declareTests(reason ?? testpmdMissing());

const PORTS = ['vhost0', 'vhost1'];
interface Rig {
  ovs: OpenVSwitch;
  bridge: VvuProcess;
  frontends: Testpmd[];
  restart(): Promise<void>;
}

async function startRig(t: ExecutionContext, flows: readonly [string, string][]): Promise<Rig> {
  const folder = await temporaryFolder('bridge-ovs');
  t.teardown(() => folder.remove());
  const ovs = await OpenVSwitch.start();
  t.teardown(() => ovs.close());
  t.log(await ovs.version());
  const devices: DeviceProcess[] = [];
  for (const port of PORTS) {
    const args = ['--vhost-user-mode', 'client'];
    const device = await DeviceProcess.start({ layout: 'split', window: 'size=1G', args });
    t.teardown(() => device.close());
    devices.push(device);
    await ovs.addPort(port, join(folder.path, port));
  }
  const bridges = PORTS.map((name, index) => {
    const device = `vfio-user:${devices[index]?.vfioUser}`;
    return { name, device, socket: join(folder.path, name), mode: 'server' };
  });
  const config = join(folder.path, 'bridges.json');
  writeFileSync(config, JSON.stringify({ bridges }));
  const bridge = await VvuProcess.start(['bridge', '--config', config]);
  t.teardown(() => bridge.kill());
  const connect = async (): Promise<void> => {
    await ovs.numbered(PORTS);
    for (const [from, to] of flows) await ovs.addFlow(from, to);
  };
  await connect();
  const frontends: Testpmd[] = [];
  for (const { vhostUser: socket } of devices) {
    const frontend = Testpmd.frontend({ socket, server: true });
    t.teardown(() => frontend.kill());
    await frontend.ready();
    await frontend.link(true);
    frontends.push(frontend);
  }
  await ovs.connected(PORTS);
  const restart = async (): Promise<void> => {
    await ovs.killSwitch(PORTS);
    for (const frontend of frontends) await frontend.link(false);
    await ovs.startSwitch();
    await connect();
    for (const frontend of frontends) await frontend.link(true, 30_000);
    await ovs.connected(PORTS);
  };
  return { ovs, bridge, frontends, restart };
}

ovsTest('Open vSwitch carries packets between the frontends of two devices', async (t) => {
  t.timeout(240_000);
  const rig = await startRig(t, [
    ['vhost0', 'vhost1'],
    ['vhost1', 'vhost0'],
  ]);
  const [first, second] = rig.frontends;
  if (first === undefined || second === undefined) throw new Error('two frontends');
  // Whatever one sends, the other gets and sends back.
  for (const [near, far] of [
    [first, second],
    [second, first],
  ] as const) {
    await far.echo();
    const before = await far.stats();
    const traffic = await circulate(near, { milliseconds: 1500 });
    report(t, 'there and back', traffic);
    t.is((await far.stats()).rxPackets - before.rxPackets, traffic.sent);
    await far.command('stop');
  }
  t.is(await rig.bridge.stop(), 'status 0');
});

ovsTest(
  'Open vSwitch returns packets to the port they came from, and may be restarted',
  async (t) => {
    t.timeout(240_000);
    const rig = await startRig(
      t,
      PORTS.map((port) => [port, port]),
    );
    for (const frontend of rig.frontends) report(t, 'once', await exchange(frontend));
    await rig.restart();
    for (const frontend of rig.frontends) {
      report(t, 'after a kill', await circulate(frontend, { milliseconds: 500 }));
    }
  },
);
