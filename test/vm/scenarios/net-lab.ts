import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ETHTOOL } from '../../support/frontend-image.js';
import { scenarioKits, type ScenarioKits } from '../../support/vm-kit.js';
import type { Lab, LabKind, LabOptions, LabVm } from '../lab.js';
import { vhostUserNetArguments } from '../qemu-arguments.js';
import { Vm } from '../qemu.js';
import { Appliance } from './appliance.js';
import { NetGuest, type Pings, type Transfer } from './net-guest.js';
import { startTestpmd, testpmdCounters, TESTPMD_OUTPUT } from './testpmd.js';

export interface NetLabOptions extends LabOptions {
  /** What the backend serves; a frontend may have fewer. */
  readonly queuePairs: number;
}

const FRONTEND_MEMORY = '192M';
const FIRST_PACKET_LIMIT = 180_000;
const SHOWN_PINGS = 10;
const SHOWN_MIB = 8;

/**
 * Two Linux VMs on a wire that a third one makes: testpmd forwards between two devices of the
 * appliance.
 */
export class NetLab implements Lab {
  readonly frontends: NetGuest[] = [];

  private constructor(
    readonly appliance: Appliance,
    private readonly kits: ScenarioKits,
    readonly options: NetLabOptions,
  ) {}

  /** Starts all of it and waits for the first packet that comes back. */
  static async start(kits: ScenarioKits, options: NetLabOptions): Promise<NetLab> {
    const { folder, queuePairs, say, deviceLog } = options;
    const frontends = [0, 1].map((index) => {
      return { size: FRONTEND_MEMORY, path: join(folder, `ram-${index}`) };
    });
    say('starting two `vvu device` processes and the appliance VM');
    const began = Date.now();
    const appliance = await Appliance.start(kits.appliance, frontends, [], deviceLog);
    const lab = new NetLab(appliance, kits, options);
    try {
      lab.#say('the appliance VM is up, with two devices', began);
      // First what needs a processor to start, then what takes one for itself.
      await appliance.startBridge();
      await startTestpmd(appliance, { queuePairs, forward: 'io' });
      lab.#say('vvu bridge and DPDK testpmd run in it', began);
      await lab.startFrontends(queuePairs);
      lab.#say('both frontend VMs are up', began);
      await lab.firstPacket();
      lab.#say('the first packet has come back (boot to first packet)', began);
      return lab;
    } catch (error) {
      say(await appliance.log());
      await lab.close();
      throw error;
    }
  }

  get vms(): LabVm[] {
    const peer = (index: number): string[] => [
      `ping -c 3 ${this.frontend(1 - index).address}`,
      `${ETHTOOL} -S eth0`,
    ];
    return [
      { vm: this.appliance.vm, hints: [`tail -n 18 ${TESTPMD_OUTPUT}`, 'tail /tmp/bridge.err'] },
      ...this.frontends.map(({ vm }, index) => ({ vm, hints: peer(index) })),
    ];
  }

  /** Starts both frontend VMs, in place of those that run. */
  async startFrontends(queuePairs: number): Promise<void> {
    for (const { vm } of this.frontends.splice(0)) await vm.close();
    for (const index of this.appliance.services.keys()) {
      const boot = this.#boot(index, queuePairs);
      this.frontends.push(new NetGuest(await this.appliance.whileServed(boot), index));
    }
    for (const guest of this.frontends) await guest.up();
  }

  frontend(index: number): NetGuest {
    const guest = this.frontends[index];
    if (guest === undefined) throw new Error(`frontend ${index} is not running`);
    return guest;
  }

  /** Until a ping of the first frontend is answered by the second. @returns milliseconds */
  async firstPacket(): Promise<number> {
    const began = Date.now();
    while ((await this.ping({ count: 1 })).received === 0) {
      if (Date.now() - began > FIRST_PACKET_LIMIT) throw new Error('no ping was answered');
      await sleep(100);
    }
    return Date.now() - began;
  }

  /** From the first frontend to the second. */
  ping(options: { count: number; size?: number; cpu?: number }): Promise<Pings> {
    return this.frontend(0).ping(this.frontend(1).address, options);
  }

  /** Random bytes through TCP from a frontend to the other one. */
  transfer(from: number, mib: number, cpu?: number): Promise<Transfer> {
    const sender = this.frontend(from);
    return this.appliance.whileServed(sender.transfer(this.frontend(1 - from), mib, cpu));
  }

  /** Packets that testpmd has received and not delivered since it started. */
  async lost(): Promise<number> {
    const ports = await testpmdCounters(this.appliance);
    return ports.reduce((sum, { received, sent }) => sum + received - sent, 0);
  }

  async show(): Promise<void> {
    const { say } = this.options;
    const { sent, received } = await this.ping({ count: SHOWN_PINGS, size: 1400 });
    say(`ping from frontend-0 to frontend-1: ${sent} sent, ${received} answered`);
    for (const from of [0, 1]) {
      say(`TCP from frontend-${from}: ${describeTransfer(await this.transfer(from, SHOWN_MIB))}`);
    }
    for (const { port, received, sent } of await testpmdCounters(this.appliance)) {
      say(`testpmd port ${port}: ${received} packets received, ${sent} sent`);
    }
  }

  async close(): Promise<void> {
    for (const { vm } of this.frontends) await vm.close();
    await this.appliance.close();
  }

  #boot(index: number, queuePairs: number): Promise<Vm> {
    const { device, memory } = this.appliance.service(index);
    const net = { id: 'net', path: device.vhostUser, queuePairs, reconnect: 1 };
    return Vm.start(this.kits.frontend, {
      name: `frontend-${index}`,
      memory,
      // Linux uses no more queue pairs than it has processors.
      cpus: queuePairs,
      args: vhostUserNetArguments(net),
    });
  }

  #say(line: string, began: number): void {
    this.options.say(`${((Date.now() - began) / 1000).toFixed(1)} s: ${line}`);
  }
}

/** One line about a transfer. */
export function describeTransfer({ bytes, sent, received, seconds, packets }: Transfer): string {
  const rate = (bytes / 2 ** 20 / seconds).toFixed(1);
  const equal = sent === received ? 'equal SHA-256 at both ends' : `DAMAGED: ${sent}, ${received}`;
  return `${bytes} bytes in ${seconds.toFixed(1)} s (${rate} MiB/s), ${packets} packets, ${equal}`;
}

export const netLabKind: LabKind = {
  summary: "DPDK's testpmd in an appliance VM is the wire between two Linux VMs",
  picture: `
  frontend-0 (Linux)          appliance (Linux, DPDK)          frontend-1 (Linux)
  virtio_net  <-- its RAM is a PCI BAR --> testpmd <-- its RAM is a PCI BAR -->  virtio_net
       |                       vvu bridge x 2                        |
       +--vhost-user-- vvu device --vfio-user--+--vfio-user-- vvu device --vhost-user--+`,
  start: async (options) => NetLab.start(await scenarioKits(), { ...options, queuePairs: 4 }),
};
