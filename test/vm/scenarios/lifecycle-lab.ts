import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ScenarioKits } from '../../support/vm-kit.js';
import type { DeviceProcess } from '../device-process.js';
import type { GuestProgram } from '../guest-program.js';
import { vhostUserNetArguments } from '../qemu-arguments.js';
import { Vm } from '../qemu.js';
import { Appliance } from './appliance.js';
import { NetGuest } from './net-guest.js';
import { startTestpmd } from './testpmd.js';

/** From the last step of the operator to packets; printed beside what it took. */
export const RECOVERY_BOUND = 120_000;

const FRONTEND_MEMORY = '192M';
/** A frontend's start lasts as long as that of all that it waits for. */
const FRONTEND_TIMEOUT = 600_000;
/** What answers every ping, and its hardware address: testpmd's icmpecho takes any. */
const PEER = '192.0.2.200';
const PEER_MAC = '02:00:00:00:00:c8';
const PACKETS = 10;

/**
 * One appliance with one device, whose testpmd answers pings, and one frontend that pings without
 * end: to start and to end each of them at any time.
 */
export class LifecycleLab {
  #frontend: NetGuest | undefined;

  private constructor(
    readonly appliance: Appliance,
    private readonly kits: ScenarioKits,
  ) {}

  /** With a device process, and nothing else yet. */
  static async start(kits: ScenarioKits, folder: string): Promise<LifecycleLab> {
    const memory = { size: FRONTEND_MEMORY, path: join(folder, 'ram') };
    return new LifecycleLab(await Appliance.withDevices(kits.appliance, [memory]), kits);
  }

  get device(): DeviceProcess {
    return this.appliance.service(0).device;
  }

  get frontend(): NetGuest {
    if (this.#frontend === undefined) throw new Error('the frontend VM is not running');
    return this.#frontend;
  }

  get backend(): GuestProgram {
    return required(this.appliance.backend, 'backend');
  }

  get bridge(): GuestProgram {
    return required(this.appliance.bridge, 'bridge');
  }

  async startBackend(): Promise<void> {
    await startTestpmd(this.appliance, { queuePairs: 1, forward: 'icmpecho' });
  }

  /** Bridge and backend. */
  async startPrograms(): Promise<void> {
    await this.appliance.startBridge();
    await this.startBackend();
  }

  /** Resolves once it has booted, which is after all others are up: see `waiting`. */
  async startFrontend(): Promise<void> {
    const { device, memory } = this.appliance.service(0);
    const vm = await Vm.start(this.kits.frontend, {
      name: 'frontend',
      memory,
      bootTimeout: FRONTEND_TIMEOUT,
      args: vhostUserNetArguments({ id: 'net', path: device.vhostUser, reconnect: 1 }),
    });
    this.#frontend = new NetGuest(vm, 0);
    await this.startTraffic();
  }

  /** After each boot of the frontend VM. */
  async startTraffic(): Promise<void> {
    const guest = this.frontend;
    await guest.up();
    await guest.run(`arp -s ${PEER} ${PEER_MAC}`);
    const pings = `touch /tmp/go; while [ -e /tmp/go ]; do ping -q -i 0.05 ${PEER}; sleep 0.1; done`;
    await guest.run(`(${pings}) >/dev/null 2>&1 </dev/null &`);
  }

  async stopTraffic(): Promise<void> {
    await this.frontend.run('rm /tmp/go; killall ping; ifconfig eth0 down');
  }

  /** Waits until answers to the pings arrive. @returns milliseconds */
  async flowing(): Promise<number> {
    const began = Date.now();
    const { received } = await this.frontend.packets();
    while ((await this.frontend.packets()).received < received + PACKETS) {
      if (Date.now() - began > RECOVERY_BOUND) {
        throw new Error(`no packets within ${RECOVERY_BOUND} ms\n${await this.appliance.log()}`);
      }
      await sleep(50);
    }
    return Date.now() - began;
  }

  async endFrontend(): Promise<void> {
    await this.#frontend?.vm.close();
    this.#frontend = undefined;
  }

  async close(): Promise<void> {
    await this.endFrontend();
    await this.appliance.close();
  }
}

function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`no ${what} was started`);
  return value;
}
