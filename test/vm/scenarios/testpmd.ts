import { setTimeout as sleep } from 'node:timers/promises';
import { TESTPMD } from '../../support/appliance-image.js';
import type { Appliance } from './appliance.js';

export interface TestpmdOptions {
  readonly queuePairs: number;
  /** `io`: what one port receives the next one sends. `icmpecho`: answers to ARP and ping. */
  readonly forward: 'io' | 'icmpecho';
}

/** Where testpmd, with the output of each period, can be read in the appliance. */
export const TESTPMD_OUTPUT = '/tmp/backend.out';
/** The vhost PMD spreads what is larger, up to 64 KiB, over several buffers. */
const BUFFERS = '--total-num-mbufs=8192 --mbuf-size=2176';
const STATS_SECONDS = 2;
const STATS_TIMEOUT = 60_000;

/**
 * DPDK's testpmd as the backend for all services of an appliance, one port each. Offloads are
 * passed through: a packet without a checksum, or larger than the MTU, leaves as it came.
 */
export async function startTestpmd(appliance: Appliance, options: TestpmdOptions): Promise<void> {
  const { queuePairs, forward } = options;
  const vdevs = appliance.services.map(({ socket }, port) => {
    const vhost = `net_vhost${port},iface=${socket},queues=${queuePairs}`;
    return `--vdev ${vhost},tso=1,legacy-ol-flags=1`;
  });
  const eal = `--lcores 0@0-1,1@0-1 --no-pci --no-telemetry --no-huge -m 128 --iova-mode=va`;
  const queues = `--rxq=${queuePairs} --txq=${queuePairs}`;
  const topology = appliance.services.length === 1 ? '--port-topology=loop' : '';
  const mode = `--nb-cores=1 --forward-mode=${forward} --auto-start ${topology}`;
  const sockets = appliance.services.map(({ socket }) => socket).join(' ');
  const program = `${TESTPMD} ${eal} ${vdevs.join(' ')} -- ${mode} ${queues} ${BUFFERS}`;
  // With a period it does not end when its standard input does.
  const statistics = `--stats-period ${STATS_SECONDS}`;
  await appliance.startBackend(
    `sh -c 'mkdir -p /var/run; rm -f ${sockets}; exec ${program} ${statistics}'`,
  );
}

export interface PortCounters {
  readonly port: number;
  readonly received: number;
  readonly sent: number;
}

/** The counters of its next period. */
export async function testpmdCounters(appliance: Appliance): Promise<PortCounters[]> {
  const [size = '0'] = await appliance.vm.shell(`wc -c < ${TESTPMD_OUTPUT}`);
  const end = Date.now() + STATS_TIMEOUT;
  for (;;) {
    const text = await appliance.vm.shell(`tail -c +${Number(size) + 1} ${TESTPMD_OUTPUT}`);
    // The period that was under way may have been counted before.
    const [, , period] = text.join('\n').split('Port statistics ===');
    const counters = [...(period ?? '').matchAll(PORT)].map(toCounters);
    if (counters.length === appliance.services.length) return counters;
    if (Date.now() > end) throw new Error(`no statistics from testpmd:\n${text.join('\n')}`);
    await sleep(500);
  }
}

const PORT = /NIC statistics for port (\d+)[^]*?RX-packets: (\d+)[^]*?TX-packets: (\d+)/g;

function toCounters([, port, received, sent]: RegExpMatchArray): PortCounters {
  return { port: Number(port), received: Number(received), sent: Number(sent) };
}
