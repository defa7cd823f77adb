import { setTimeout as sleep } from 'node:timers/promises';
import { APPLIANCE_MEMORY } from '../../support/appliance-image.js';
import type { VmKit } from '../../support/vm-kit.js';
import { DeviceProcess } from '../device-process.js';
import { GuestProgram } from '../guest-program.js';
import { vfioUserArguments, type GuestMemory } from '../qemu-arguments.js';
import { Vm } from '../qemu.js';

/** One frontend that an appliance serves. */
export interface Service {
  readonly device: DeviceProcess;
  readonly uuid: string;
  /** The frontend VM's RAM: a file is the window too, without one the window is trapped. */
  readonly memory: GuestMemory;
  /** Inside the appliance: where the backend listens. */
  readonly socket: string;
}

/** What a guest under TCG must have for DPDK, which needs SSE 4.2. */
const CPU = ['-cpu', 'max'];
const BRIDGE_TIMEOUT = 300_000;
const BACKEND_TIMEOUT = 180_000;
const CHECK_EVERY = 1_000;
/** Of each program's output in an error report; testpmd's statistics go on for ever. */
const LOG_LINES = 120;

function uuidOf(index: number): string {
  return `6a1b2c3d-0011-2233-4455-66778899aa${String(index).padStart(2, '0')}`;
}

/**
 * An appliance VM on an unpatched QEMU with a vIOMMU, one device per frontend, and in it one
 * `vvu bridge` for all of them and a packaged backend.
 *
 * The one owner calls `close()`, whatever happened.
 */
export class Appliance {
  bridge: GuestProgram | undefined;
  backend: GuestProgram | undefined;

  #vm: Vm | undefined;

  private constructor(
    private readonly kit: VmKit,
    readonly services: readonly Service[],
    private readonly args: readonly string[],
  ) {}

  /**
   * Boots it, with a device for each frontend, and with these arguments of QEMU besides. `onLog` is
   * told of each line that a device logs.
   */
  static async start(
    kit: VmKit,
    frontends: readonly GuestMemory[],
    args: readonly string[] = [],
    onLog?: (line: string) => void,
  ): Promise<Appliance> {
    const appliance = await Appliance.withDevices(kit, frontends, args, onLog);
    try {
      await appliance.boot();
      return appliance;
    } catch (error) {
      await appliance.close();
      throw error;
    }
  }

  /** The same without the VM: `boot()` starts that. */
  static async withDevices(
    kit: VmKit,
    frontends: readonly GuestMemory[],
    args: readonly string[] = [],
    onLog?: (line: string) => void,
  ): Promise<Appliance> {
    const services: Service[] = [];
    try {
      for (const [index, memory] of frontends.entries()) {
        const uuid = uuidOf(index);
        const { path, size } = memory;
        const window = path === undefined ? `size=${size}` : `path=${path},size=${size}`;
        const tell = onLog && ((line: string) => onLog(`device-${index}: ${line}`));
        const device = await DeviceProcess.start({
          layout: 'split',
          window,
          uuid,
          ...(tell && { onLog: tell }),
        });
        services.push({ device, uuid, memory, socket: `/tmp/backend-${index}.sock` });
      }
      return new Appliance(kit, services, args);
    } catch (error) {
      for (const { device } of services) await device.close();
      throw error;
    }
  }

  /** Starts the VM, in place of an earlier one. Nothing runs in it yet. */
  async boot(): Promise<void> {
    await this.#vm?.close();
    this.#vm = undefined;
    this.bridge = undefined;
    this.backend = undefined;
    const devices = this.services.flatMap(({ device }) => vfioUserArguments(device.vfioUser));
    this.#vm = await Vm.start(this.kit, {
      name: 'appliance',
      iommu: true,
      cpus: 2,
      memory: { size: APPLIANCE_MEMORY },
      args: [...CPU, ...devices, ...this.args],
    });
  }

  get vm(): Vm {
    if (this.#vm === undefined) throw new Error('the appliance VM is not running');
    return this.#vm;
  }

  /** Starts the bridge and waits until it has found its devices; the backend may come later. */
  async startBridge(): Promise<void> {
    const bridges = this.services.map(({ uuid, socket }) => {
      return { device: `uuid:${uuid}`, socket, bind: 'vfio-pci' };
    });
    const config = JSON.stringify({ bridges });
    await this.vm.shell(`mkdir -p /tmp; echo '${config}' > /tmp/bridges.json`);
    const args = 'dist/src/cli/main.js bridge --json --config /tmp/bridges.json';
    this.bridge = await GuestProgram.start(this.vm, 'bridge', args);
    for (const service of this.services) {
      const ready = await this.bridge.event('ready', BRIDGE_TIMEOUT);
      if (typeof ready['socket'] !== 'string') throw new Error(`not ready: ${service.uuid}`);
    }
  }

  /** Starts a backend: any command of the guest that listens on the sockets of the services. */
  async startBackend(command: string): Promise<void> {
    this.backend = await GuestProgram.command(this.vm, 'backend', command);
  }

  /** Waits until the backend listens there, or has ended. */
  async listening(socket: string): Promise<void> {
    const wait = `until [ -S ${socket} ]; do [ ! -e /tmp/backend.rc ] || exit 1; sleep 0.1; done`;
    await this.vm.shell(wait, BACKEND_TIMEOUT).catch(async (error: unknown) => {
      const log = await this.backend?.log();
      throw new Error(`the backend does not listen on ${socket}:\n${log}`, { cause: error });
    });
  }

  service(index: number): Service {
    const service = this.services[index];
    if (service === undefined) throw new Error(`there is no device ${index}`);
    return service;
  }

  /** The work's result, unless the backend ends first: nothing would come of waiting then. */
  async whileServed<T>(work: Promise<T>): Promise<T> {
    const { backend } = this;
    if (backend === undefined) throw new Error('no backend was started');
    const settled = work.then(
      () => true,
      () => true,
    );
    while (!(await Promise.race([settled, sleep(CHECK_EVERY, false)]))) {
      const status = await backend.exitStatus();
      if (status === undefined) continue;
      throw new Error(`the backend ended, status ${status}:\n${await backend.log()}`);
    }
    return work;
  }

  /** All that tells why something did not work. */
  async log(): Promise<string> {
    const parts = this.services.map(({ device }) => device.log);
    for (const program of [this.bridge, this.backend]) {
      const text = (await program?.log().catch((error: unknown) => String(error))) ?? '';
      parts.push(text.split('\n').slice(-LOG_LINES).join('\n'));
    }
    return [...parts, this.#vm?.log ?? ''].join('\n');
  }

  async close(): Promise<void> {
    await this.#vm?.close();
    for (const { device } of this.services) await device.close();
  }
}
