import { available, declareTests } from '../../support/declare-tests.js';
import { temporaryFolder } from '../../support/temporary.js';
import { scenarioKits } from '../../support/vm-kit.js';
import { NetLab } from './net-lab.js';

// Three VMs, no process of the host in the data path: DPDK's testpmd in the appliance forwards
// between two devices, and the Linux of each of the other two has one end as its eth0.

const { value: kit, reason } = await available(scenarioKits);
const vmTest = declareTests(reason);

const PINGS = 20;
const MIB = 8;

vmTest('two VMs ping and transfer through a DPDK guest, 1 queue pair', async (t) => {
  if (!kit) return;
  t.timeout(600_000);
  const folder = await temporaryFolder('net', '/dev/shm');
  t.teardown(() => folder.remove());
  const lab = await NetLab.start(kit, {
    queuePairs: 1,
    folder: folder.path,
    say: (line) => t.log(line),
  });
  t.teardown(() => lab.close());
  try {
    for (const size of [56, 1400]) {
      const pings = await lab.ping({ count: PINGS, size });
      t.log(`pings of ${size} bytes: ${JSON.stringify(pings)}`);
      t.deepEqual(pings, { sent: PINGS, received: PINGS });
    }
    for (const from of [0, 1]) {
      const { bytes, sent, received, seconds, packets } = await lab.transfer(from, MIB);
      t.log(
        `TCP from ${from}: ${bytes} bytes in ${seconds.toFixed(1)} s, ${packets} packets, ${sent}`,
      );
      t.is(received, sent);
      // With TSO on, packets are larger than any frame.
      t.true(packets < bytes / 1500, 'segmentation is left to the other end');
    }
  } catch (error) {
    t.log(await lab.appliance.log());
    throw error;
  }
});
