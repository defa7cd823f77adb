import type { ExecutionContext } from 'ava';
import { available, declareTests } from '../../support/declare-tests.js';
import { nodeVmKit, vmKit, type VmKit } from '../../support/vm-kit.js';
import { allReturned, bringUpNet, NEIGHBOUR, netCounters } from '../guest-net.js';
import { Migration, type MigrationState } from '../migration.js';
import { RawNet, RX_BUFFERS } from '../raw-net.js';
import { MAC, startLab } from './migration-lab.js';

// A frontend VM migrates between two QEMUs while the backend behind the device writes its memory. The
// pages in question are written by the backend alone: they are right at the destination only if the
// source's QEMU sent them again, and it knows that they are dirty from the backend's log alone.

async function kits(): Promise<{ frontend: VmKit; appliance: VmKit }> {
  const [frontend, appliance] = await Promise.all([vmKit(), nodeVmKit()]);
  return { frontend, appliance };
}

const { value: kit, reason } = await available(kits);
const vmTest = declareTests(reason);

const DURING = 4;

function report(t: ExecutionContext, what: string, { ram, downtime }: MigrationState): void {
  const passes = ram?.['dirty-sync-count'];
  const rate = ram?.['dirty-pages-rate'];
  const end = downtime === undefined ? '' : `, downtime ${downtime} ms`;
  t.log(`${what}: ${ram?.transferred} bytes, pass ${passes}, ${rate} dirty pages/s${end}`);
}

async function migrate(
  t: ExecutionContext,
  images: { frontend: VmKit; appliance?: VmKit },
): Promise<void> {
  const { source, destination, said, uri } = await startLab(t, images);
  const net = await RawNet.start(source);
  await net.send('before');
  t.is(await net.receive(), 'before');

  await destination.receive(uri);
  const migration = await Migration.begin(source, uri);
  t.log(await said[0](/^SET_LOG_BASE/));
  t.log(await said[0](/^SET_FEATURES .*0x144000000$/), 'VIRTIO_F_VERSION_1 and VHOST_F_LOG_ALL');
  report(t, 'the memory was sent once', await migration.hold());
  const packets = Array.from({ length: DURING }, (_, index) => `during ${index}`);
  for (const packet of packets) await net.send(packet);
  // Looking does not write: the used index says that the backend has.
  for (const packet of packets) t.is(await net.receive(), packet);
  report(t, 'completed', await migration.complete());

  // All that is known of the queues is in memory; the packets are looked at a second time.
  const there = await net.on(destination, DURING);
  for (const packet of packets) t.is(await there.receive(), packet, 'the pages came along');
  t.is(await said[1](/^SEND_RARP/), `SEND_RARP ${MAC}`);
  t.regex(await said[1](/^SET_VRING_BASE index=0/), / num=5$/, 'the ring goes on where it was');
  for (let left = 1 + DURING; left < RX_BUFFERS; left++) {
    await there.send(`after ${left}`);
    t.is(await there.receive(), `after ${left}`);
  }
}

vmTest("packets of Linux's virtio_net go on through a migration, and none is lost", async (t) => {
  if (!kit) return;
  t.timeout(600_000);
  const { source, destination, said, uri } = await startLab(t, { frontend: kit.frontend });
  await bringUpNet(source, 60_000);
  await source.shell(`(ping -q -i 0.05 -s 1400 ${NEIGHBOUR}) >/dev/null 2>&1 &`);
  await destination.receive(uri);
  const migration = await Migration.begin(source, uri);
  report(t, 'the memory was sent once', await migration.hold());
  const before = await netCounters(source);
  report(t, 'completed', await migration.complete());
  t.is(await said[1](/^SEND_RARP/), `SEND_RARP ${MAC}`);
  for (let more = 0; more < 20;) {
    more = (await netCounters(destination)).sent - before.sent;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await destination.shell('killall ping');
  const { sent, received } = await allReturned(destination);
  t.log(`${before.sent} packets before the end of the migration, ${sent} in all`);
  t.is(received, sent);
});

vmTest('a frontend VM migrates while a backend on the host writes its memory', async (t) => {
  if (!kit) return;
  t.timeout(300_000);
  await migrate(t, { frontend: kit.frontend });
});

vmTest('a frontend VM migrates while a backend in the appliance writes its memory', async (t) => {
  if (!kit) return;
  t.timeout(600_000);
  await migrate(t, kit);
});
