import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TESTPMD } from '../../support/appliance-image.js';
import type { ScenarioKits } from '../../support/vm-kit.js';
import { vhostUserNetArguments } from '../qemu-arguments.js';
import { Vm } from '../qemu.js';
import { Appliance } from './appliance.js';

export interface NetLabOptions {
  readonly queuePairs: number;
  /** The window files go here: a folder in memory. */
  readonly folder: string;
  /** Told of each step, and how long it took. */
  readonly say: (line: string) => void;
}

const FRONTEND_MEMORY = '192M';
const GUEST_TIMEOUT = 180_000;
/** The vhost PMD spreads what is larger, up to 64 KiB, over several buffers. */
const BUFFERS = '--total-num-mbufs=4096 --mbuf-size=2176';

/**
 * Two Linux VMs on a wire that a third one makes: testpmd forwards between two devices of the
 * appliance. Offloads are passed through: a frontend's packet without a checksum, or larger than
 * the MTU, reaches the other frontend as it is, with its header.
 */
export class NetLab {
  readonly frontends: Vm[] = [];

  private constructor(
    readonly appliance: Appliance,
    private readonly kits: ScenarioKits,
    readonly options: NetLabOptions,
  ) {}

  static async start(kits: ScenarioKits, options: NetLabOptions): Promise<NetLab> {
    const { folder, say } = options;
    const began = Date.now();
    const since = (): string => `${((Date.now() - began) / 1000).toFixed(1)} s`;
    const frontends = [0, 1].map((index) => {
      return { size: FRONTEND_MEMORY, path: join(folder, `ram-${index}`) };
    });
    const appliance = await Appliance.start(kits.appliance, frontends);
    const lab = new NetLab(appliance, kits, options);
    try {
      say(`${since()}: the appliance VM is up, with two devices`);
      await lab.startTestpmd();
      await appliance.startBridge();
      say(`${since()}: vvu bridge and testpmd run in it`);
      for (const index of appliance.services.keys()) await lab.startFrontend(index);
      say(`${since()}: both frontend VMs are up`);
      await lab.firstPacket();
      say(`${since()}: the first packet has come back (boot to first packet)`);
      return lab;
    } catch (error) {
      say(await appliance.log());
      await lab.close();
      throw error;
    }
  }

  /** testpmd as a backend for all services, forwarding from one port to the next. */
  async startTestpmd(): Promise<void> {
    const { queuePairs } = this.options;
    const vdevs = this.appliance.services.map(({ socket }, port) => {
      const vhost = `net_vhost${port},iface=${socket},queues=${queuePairs}`;
      return `--vdev ${vhost},tso=1,legacy-ol-flags=1`;
    });
    const eal = `--lcores 0@0-1,1@0-1 --no-pci --no-telemetry --no-huge -m 128 --iova-mode=va`;
    const queues = `--rxq=${queuePairs} --txq=${queuePairs}`;
    const forward = `--nb-cores=1 --forward-mode=io --auto-start ${queues} ${BUFFERS}`;
    const sockets = this.appliance.services.map(({ socket }) => socket).join(' ');
    // Ends when its standard input does, so there is one that stays open.
    const program = `${TESTPMD} ${eal} ${vdevs.join(' ')} -- ${forward} --stats-period 3600`;
    await this.appliance.startBackend(
      `sh -c 'mkdir -p /var/run; rm -f ${sockets}; exec ${program}'`,
    );
  }

  async startFrontend(index: number): Promise<Vm> {
    const service = this.appliance.service(index);
    const { queuePairs } = this.options;
    const vm = await Vm.start(this.kits.frontend, {
      memory: service.memory,
      cpus: queuePairs > 1 ? 2 : 1,
      args: vhostUserNetArguments({
        id: 'net',
        path: service.device.vhostUser,
        queuePairs,
        reconnect: 1,
      }),
    });
    this.frontends[index] = vm;
    await vm.shell('mkdir -p /tmp; modprobe -a virtio_pci virtio_net', GUEST_TIMEOUT);
    await vm.shell(`ifconfig eth0 ${this.address(index)} netmask 255.255.255.0 up`);
    return vm;
  }

  address(index: number): string {
    return `192.0.2.${index + 1}`;
  }

  frontend(index: number): Vm {
    const vm = this.frontends[index];
    if (vm === undefined) throw new Error(`frontend ${index} is not running`);
    return vm;
  }

  /** Until a ping of the first frontend is answered by the second. @returns milliseconds */
  async firstPacket(limit = GUEST_TIMEOUT): Promise<number> {
    const began = Date.now();
    for (;;) {
      const { received } = await this.ping({ count: 1 });
      if (received > 0) return Date.now() - began;
      if (Date.now() - began > limit) throw new Error(`no answer to a ping in ${limit} ms`);
      await sleep(100);
    }
  }

  /** From the first frontend to the second. */
  async ping(options: {
    count: number;
    size?: number;
  }): Promise<{ sent: number; received: number }> {
    const { count, size = 56 } = options;
    const command = `ping -c ${count} -i 0.1 -s ${size} -W 10 ${this.address(1)} 2>&1 || true`;
    const text = (await this.frontend(0).shell(command, GUEST_TIMEOUT)).join('\n');
    const found = /(\d+) packets transmitted, (\d+) packets received/.exec(text);
    return { sent: Number(found?.[1] ?? 0), received: Number(found?.[2] ?? 0) };
  }

  /**
   * Random bytes through TCP, checked by their SHA-256 on both ends.
   */
  async transfer(from: number, mib: number): Promise<Transfer> {
    const [source, target] = [this.frontend(from), this.frontend(1 - from)];
    await source.shell(`head -c ${mib * 2 ** 20} /dev/urandom > /tmp/data`, GUEST_TIMEOUT);
    // busybox' nc ends its side with its input, which the sender would take for the end of all:
    // a fifo that is open for writing, too, never ends.
    const listen = 'nc -l -p 5001 <>/tmp/open > /tmp/got; echo done > /tmp/end';
    await target.shell(`[ -p /tmp/open ] || mkfifo /tmp/open; (${listen}) >/dev/null 2>&1 &`);
    await target.shell('until netstat -ltn | grep -q :5001; do sleep 0.1; done', GUEST_TIMEOUT);
    const before = await packets(source);
    const began = Date.now();
    await source.shell(`nc ${this.address(1 - from)} 5001 < /tmp/data`, GUEST_TIMEOUT);
    const wait = 'until [ -e /tmp/end ]; do sleep 0.1; done; rm /tmp/end';
    await target.shell(wait, GUEST_TIMEOUT);
    const seconds = (Date.now() - began) / 1000;
    const sentPackets = (await packets(source)) - before;
    const [sent = ''] = await source.shell('sha256sum < /tmp/data', GUEST_TIMEOUT);
    const [received = ''] = await target.shell('sha256sum < /tmp/got', GUEST_TIMEOUT);
    await source.shell('rm /tmp/data');
    await target.shell('rm /tmp/got');
    return { bytes: mib * 2 ** 20, sent, received, seconds, packets: sentPackets };
  }

  async close(): Promise<void> {
    for (const vm of this.frontends) await vm.close();
    await this.appliance.close();
  }
}

export interface Transfer {
  readonly bytes: number;
  /** SHA-256, as sha256sum prints it, of what was sent and of what arrived. */
  readonly sent: string;
  readonly received: string;
  readonly seconds: number;
  /** What the sender's interface counted. */
  readonly packets: number;
}

async function packets(vm: Vm): Promise<number> {
  const [text] = await vm.shell('cat /sys/class/net/eth0/statistics/tx_packets');
  return Number(text);
}
