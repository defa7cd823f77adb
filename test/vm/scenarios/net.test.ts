import test, { type ExecutionContext } from 'ava';
import { available, declareTests } from '../../support/declare-tests.js';
import { temporaryFolder } from '../../support/temporary.js';
import { scenarioKits } from '../../support/vm-kit.js';
import { describeTransfer, NetLab } from './net-lab.js';

// Three VMs, no process of the host in the data path: DPDK's testpmd in the appliance forwards
// between two devices, and the Linux of each of the other two has one end as its eth0.

const { value: kits, reason } = await available(scenarioKits);
const vmTest = declareTests(reason);

const QUEUE_PAIRS = 4;
const PINGS = 20;
const MIB = 8;
const JUMBO = 9000;
/** Of an IPv4 header, and of that with one of ICMP or TCP with its timestamps. */
const ICMP_HEADERS = 28;
const TCP_HEADERS = 52;

/** Feature bits of virtio-net (virtio 1.3 §5.1.3). */
const OFFLOADS = { CSUM: 0, GUEST_CSUM: 1, GUEST_TSO4: 7, GUEST_TSO6: 8, TSO4: 11, TSO6: 12 };
const MRG_RXBUF = 15;
const MQ = 22;

const folder = await temporaryFolder('net', '/dev/shm');
let running: Promise<NetLab> | undefined;
test.after.always(async () => {
  await (await running?.catch(() => undefined))?.close();
  await folder.remove();
});

/** The one lab of this file; the first test that asks for it waits for it. */
function lab(t: ExecutionContext): Promise<NetLab> {
  const say = (line: string): void => t.log(line);
  running ??= NetLab.start(kits!, { queuePairs: QUEUE_PAIRS, folder: folder.path, say });
  return running;
}

/** Runs a test's body with the lab; nothing that goes through may be lost meanwhile. */
function netTest(
  title: string,
  body: (t: ExecutionContext, net: NetLab) => Promise<void>,
  prepare?: (net: NetLab) => Promise<void>,
): void {
  vmTest(title, async (t) => {
    t.timeout(900_000);
    const began = Date.now();
    const net = await lab(t);
    try {
      await prepare?.(net);
      const before = await net.lost();
      await body(t, net);
      // The counters of its ports are not of the same instant: a packet may be between two of them.
      let lost = (await net.lost()) - before;
      for (let tries = 0; lost !== 0 && tries < 5; tries++) lost = (await net.lost()) - before;
      t.is(lost, 0, 'testpmd has delivered all that it has received');
    } catch (error) {
      t.log(await net.appliance.log());
      throw error;
    }
    t.log(`scenario time: ${((Date.now() - began) / 1000).toFixed(1)} s`);
  });
}

async function pingAll(t: ExecutionContext, net: NetLab, size: number): Promise<void> {
  const pings = await net.ping({ count: PINGS, size });
  t.log(`pings of ${size} bytes: ${JSON.stringify(pings)}`);
  t.deepEqual(pings, { sent: PINGS, received: PINGS });
}

/** Both ways; `atMost` and `atLeast` bound how many bytes of data a packet carries on average. */
async function transferBoth(
  t: ExecutionContext,
  net: NetLab,
  bytesPerPacket: { readonly atLeast?: number; readonly atMost?: number },
): Promise<void> {
  for (const from of [0, 1]) {
    const transfer = await net.transfer(from, MIB);
    t.log(`TCP from ${from}: ${describeTransfer(transfer)}`);
    t.is(transfer.received, transfer.sent);
    const average = transfer.bytes / transfer.packets;
    const { atLeast = 0, atMost = Infinity } = bytesPerPacket;
    t.true(average >= atLeast && average <= atMost, `${average} bytes per packet`);
  }
}

netTest(
  'two VMs ping and transfer through a DPDK guest, 4 queue pairs, offloads',
  async (t, net) => {
    for (const guest of net.frontends) {
      const bits = await guest.negotiated();
      for (const [name, bit] of Object.entries(OFFLOADS)) t.true(bits.includes(bit), name);
      t.true(bits.includes(MRG_RXBUF) && bits.includes(MQ));
      const on = await guest.offloads();
      for (const name of ['rx-checksumming', 'tx-checksumming', 'tcp-segmentation-offload']) {
        t.true(on.includes(name), name);
      }
      t.log(`offloads: ${on.join(', ')}`);
    }
    for (const size of [56, 1400]) await pingAll(t, net, size);
    // With TSO a packet is larger than any frame: segmentation is left to the other end.
    await transferBoth(t, net, { atLeast: 1500 });
  },
);

netTest('all 4 queue pairs carry packets', async (t, net) => {
  const before = await Promise.all(net.frontends.map((guest) => guest.queues()));
  // What runs on a processor sends through that one's queue; testpmd keeps to the queue's number.
  for (let cpu = 0; cpu < QUEUE_PAIRS; cpu++) {
    const pings = await net.ping({ count: PINGS, cpu });
    t.deepEqual(pings, { sent: PINGS, received: PINGS }, `from processor ${cpu}`);
    const transfer = await net.transfer(1, 1, cpu);
    t.is(transfer.received, transfer.sent, `TCP from processor ${cpu}`);
  }
  for (const [index, guest] of net.frontends.entries()) {
    const queues = await guest.queues();
    t.is(queues.length, QUEUE_PAIRS);
    const packets = queues.map(({ received, sent }, queue) => ({
      received: received - (before[index]?.[queue]?.received ?? 0),
      sent: sent - (before[index]?.[queue]?.sent ?? 0),
    }));
    t.log(`frontend ${index}, packets by queue pair: ${JSON.stringify(packets)}`);
    // Each of them: what a processor sends and what the other frontend's processor sent to it.
    t.true(packets.every(({ received, sent }) => received >= 10 && sent >= 10));
  }
});

netTest('jumbo frames in mergeable buffers, with offloads and without', async (t, net) => {
  for (const guest of net.frontends) await guest.setMtu(JUMBO);
  const before = await net.frontend(0).packets();
  await pingAll(t, net, JUMBO - ICMP_HEADERS);
  const { sent } = await net.frontend(0).packets();
  t.true(sent - before.sent < 2 * PINGS, 'in one frame each, not in fragments');
  await transferBoth(t, net, { atLeast: 1500 });
  for (const guest of net.frontends) await guest.setOffloads('tx off tso off gso off gro off');
  await transferBoth(t, net, { atLeast: JUMBO / 2, atMost: JUMBO - TCP_HEADERS });
});

netTest(
  'the next two VMs, 1 queue pair',
  async (t, net) => {
    for (const guest of net.frontends) {
      t.is((await guest.queues()).length, 1);
      t.true((await guest.negotiated()).includes(MRG_RXBUF));
    }
    for (const size of [56, 1400]) await pingAll(t, net, size);
    await transferBoth(t, net, { atLeast: 1500 });
  },
  async (net) => {
    await net.startFrontends(1);
    await net.firstPacket();
  },
);
