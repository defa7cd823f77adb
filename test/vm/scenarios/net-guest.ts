import { ETHTOOL } from '../../support/frontend-image.js';
import type { Vm } from '../qemu.js';

export interface Pings {
  readonly sent: number;
  readonly received: number;
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

export interface QueueCounters {
  readonly received: number;
  readonly sent: number;
}

const GUEST_TIMEOUT = 180_000;
const PORT = 5001;

/** A Linux guest with one virtio_net interface, eth0. */
export class NetGuest {
  readonly address: string;

  constructor(
    readonly vm: Vm,
    index: number,
  ) {
    this.address = `192.0.2.${index + 1}`;
  }

  /** Brings the interface up. */
  async up(): Promise<void> {
    await this.run('mkdir -p /tmp; modprobe -a virtio_pci virtio_net');
    await this.run(`ifconfig eth0 ${this.address} netmask 255.255.255.0 up`);
  }

  run(command: string): Promise<string[]> {
    return this.vm.shell(command, GUEST_TIMEOUT);
  }

  async setMtu(bytes: number): Promise<void> {
    await this.run(`ifconfig eth0 mtu ${bytes}`);
  }

  /** Switches offloads as `ethtool -K` names them, for example `tso off`. */
  async setOffloads(what: string): Promise<void> {
    await this.run(`${ETHTOOL} -K eth0 ${what}`);
  }

  /** The names of all features that `ethtool -k` says are on. */
  async offloads(): Promise<string[]> {
    const lines = await this.run(`${ETHTOOL} -k eth0`);
    return lines.flatMap((line) => /^\s*(\S+): on\b/.exec(line)?.[1] ?? []);
  }

  /** Feature bits that the driver has negotiated. */
  async negotiated(): Promise<number[]> {
    const [bits = ''] = await this.run('cat /sys/class/net/eth0/device/features');
    return Array.from(bits).flatMap((bit, index) => (bit === '1' ? [index] : []));
  }

  /** Packets of each queue pair, as the driver counts them. */
  async queues(): Promise<QueueCounters[]> {
    const lines = await this.run(`${ETHTOOL} -S eth0`);
    const counters = new Map<string, number>();
    for (const line of lines) {
      const [, kind, queue, value] =
        /^\s*([rt]x)_?(?:queue_)?(\d+)_packets: (\d+)/.exec(line) ?? [];
      if (kind !== undefined) counters.set(`${kind}${queue}`, Number(value));
    }
    return Array.from({ length: counters.size / 2 }, (_, queue) => ({
      received: counters.get(`rx${queue}`) ?? 0,
      sent: counters.get(`tx${queue}`) ?? 0,
    }));
  }

  /** What the interface has counted. */
  async packets(): Promise<QueueCounters> {
    const folder = '/sys/class/net/eth0/statistics';
    const lines = await this.run(`cat ${folder}/rx_packets ${folder}/tx_packets`);
    return { received: Number(lines[0]), sent: Number(lines[1]) };
  }

  /** `cpu` is the processor it runs on, and with it the queue that its packets take. */
  async ping(
    address: string,
    { count, size = 56, cpu }: { count: number; size?: number; cpu?: number },
  ): Promise<Pings> {
    const where = onCpu(cpu);
    const command = `${where}ping -c ${count} -i 0.1 -s ${size} -W 10 ${address} 2>&1 || true`;
    const text = (await this.run(command)).join('\n');
    const found = /(\d+) packets transmitted, (\d+) packets received/.exec(text);
    return { sent: Number(found?.[1] ?? 0), received: Number(found?.[2] ?? 0) };
  }

  /** Random bytes through TCP, checked by their SHA-256 on both ends. */
  async transfer(target: NetGuest, mib: number, cpu?: number): Promise<Transfer> {
    await this.run(`head -c ${mib * 2 ** 20} /dev/urandom > /tmp/data`);
    // busybox' nc ends its side with its input, which the sender would take for the end of all:
    // a fifo that is open for writing, too, never ends.
    const listen = `nc -l -p ${PORT} <>/tmp/open > /tmp/got; echo done > /tmp/end`;
    await target.run(`[ -p /tmp/open ] || mkfifo /tmp/open; (${listen}) >/dev/null 2>&1 &`);
    await target.run(`until netstat -ltn | grep -q :${PORT}; do sleep 0.1; done`);
    const before = (await this.packets()).sent;
    const began = Date.now();
    await this.run(`${onCpu(cpu)}nc ${target.address} ${PORT} < /tmp/data`);
    await target.run('until [ -e /tmp/end ]; do sleep 0.1; done; rm /tmp/end');
    const seconds = (Date.now() - began) / 1000;
    const packets = (await this.packets()).sent - before;
    const [sent = ''] = await this.run('sha256sum < /tmp/data; rm /tmp/data');
    const [received = ''] = await target.run('sha256sum < /tmp/got; rm /tmp/got');
    return { bytes: mib * 2 ** 20, sent, received, seconds, packets };
  }
}

function onCpu(cpu: number | undefined): string {
  return cpu === undefined ? '' : `taskset ${(1 << cpu).toString(16)} `;
}
