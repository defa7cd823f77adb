import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Testpmd, testpmdMissing } from '../../src/frontend/testpmd.js';
import { available, declareTests } from '../support/declare-tests.js';
import { ensurePackages } from '../support/packages.js';
import { temporaryFolder } from '../support/temporary.js';
import { until } from '../support/until.js';
import { vmKit } from '../support/vm-kit.js';
import { VvuProcess } from '../support/vvu-process.js';
import { vhostUserNetArguments } from '../vm/qemu-arguments.js';
import { Vm } from '../vm/qemu.js';

/*
 * The frontend has a vIOMMU: an unpatched QEMU with an Intel IOMMU, whose Linux guest maps each
 * packet for its virtio-net device. The backend is DPDK's vhost PMD behind `vvu bridge`, which knows
 * no address until the frontend has translated it: misses go over the back-end channel, the
 * translations come as IOTLB messages.
 */
const missing = await ensurePackages(['dpdk']);
const { value: kit, reason } = await available(vmKit);
const iommuTest = declareTests(missing ?? testpmdMissing() ?? reason);

const PINGS = 50;

async function counters(vm: Vm): Promise<{ sent: number; received: number }> {
  const folder = '/sys/class/net/eth0/statistics';
  const lines = await vm.shell(`cat ${folder}/tx_packets ${folder}/rx_packets`);
  const [sent = NaN, received = NaN] = lines.map(Number);
  return { sent, received };
}

iommuTest('packets of a guest behind a vIOMMU pass a DPDK backend', async (t) => {
  if (!kit) return;
  const folder = await temporaryFolder('iommu');
  t.teardown(() => folder.remove());
  const place = (name: string): string => join(folder.path, name);
  const sockets = ['--vfio-user', place('vfio-user'), '--vhost-user', place('vhost-user')];
  const window = ['--window', 'size=512M'];
  const device = await VvuProcess.start(['device', ...sockets, ...window]);
  t.teardown(() => device.kill());
  const source = ['--device', `vfio-user:${place('vfio-user')}`, '--log-level', 'trace'];
  const backend = Testpmd.backend({
    socket: place('backend'),
    server: true,
    vdevArgs: 'iommu-support=1',
  });
  t.teardown(() => backend.kill());
  await backend.ready();
  await backend.echo();
  await until(() => existsSync(place('backend')), 'the backend');
  const bridge = await VvuProcess.start(['bridge', ...source, '--socket', place('backend')]);
  t.teardown(() => bridge.kill());
  const properties = { iommu_platform: true, ats: true, 'disable-legacy': 'on' };
  const vm = await Vm.start(kit, {
    iommu: 'device-iotlb',
    args: vhostUserNetArguments({ id: 'net', path: place('vhost-user'), properties }),
  });
  t.teardown(() => vm.close());
  await vm.shell('modprobe -a virtio_pci virtio_net');
  await vm.shell('ifconfig eth0 192.0.2.1 netmask 255.255.255.0 up');
  await vm.shell('arp -s 192.0.2.2 02:00:00:00:00:02');
  await vm.shell(`ping -q -c ${PINGS} -i 0.05 -s 1400 192.0.2.2 > /dev/null || true`, 60_000);
  // On its way back a packet whose buffer is not translated yet is not kept by testpmd but dropped.
  let [now, stats] = [await counters(vm), await backend.stats()];
  const settled = (): boolean => now.sent === stats.rxPackets && now.received === stats.txPackets;
  for (let tries = 0; tries < 100 && !settled(); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    [now, stats] = [await counters(vm), await backend.stats()];
  }
  const seen = (name: string): number => bridge.log.split(name).length - 1;
  const messages = { misses: seen('BACKEND_IOTLB_MSG'), all: seen('IOTLB_MSG') };
  t.log(`sent ${now.sent}, received ${now.received}; ${JSON.stringify(messages)}`);
  t.true(now.sent >= PINGS);
  t.is(stats.rxPackets, now.sent, 'each packet has reached the backend');
  t.true(now.received > 0);
  t.is(now.received, stats.txPackets);
  t.true(messages.misses > 0, 'the backend has asked for translations');
  t.true(messages.all > 2 * messages.misses, 'and got them, with invalidations');
  t.is(await vm.powerOff(), 'status 0');
});
