import { VIRTIOFSD } from '../../support/appliance-image.js';
import type { ScenarioKits } from '../../support/vm-kit.js';
import { vhostUserArguments, type GuestMemory } from '../qemu-arguments.js';
import { Vm } from '../qemu.js';
import { Appliance } from './appliance.js';

export interface FsLabOptions {
  readonly frontend: GuestMemory;
  /** Told of each step, and how long it took. */
  readonly say: (line: string) => void;
}

/** The folder, in the appliance and in the frontend. */
export const SHARED = '/tmp/shared';
export const TAG = 'shared';
const GUEST_TIMEOUT = 300_000;

/** An appliance VM in which virtiofsd shares a folder with a frontend VM. */
export class FsLab {
  frontend: Vm | undefined;

  private constructor(
    private readonly began: number,
    readonly appliance: Appliance,
    private readonly kits: ScenarioKits,
    readonly options: FsLabOptions,
  ) {}

  /** Starts both VMs; the folder is not mounted yet. */
  static async start(kits: ScenarioKits, options: FsLabOptions): Promise<FsLab> {
    const began = Date.now();
    const appliance = await Appliance.start(kits.appliance, [options.frontend]);
    const lab = new FsLab(began, appliance, kits, options);
    try {
      lab.#say('the appliance VM is up');
      await lab.#startDaemon();
      await appliance.startBridge();
      lab.#say('vvu bridge and virtiofsd run in it');
      await lab.#startFrontend();
      return lab;
    } catch (error) {
      options.say(await appliance.log());
      await lab.close();
      throw error;
    }
  }

  async #startFrontend(): Promise<void> {
    const { device, memory } = this.appliance.service(0);
    const boot = Vm.start(this.kits.frontend, {
      memory,
      args: vhostUserArguments('vhost-user-fs-pci', device.vhostUser, { tag: TAG }),
    });
    this.frontend = await this.appliance.whileServed(boot);
    await this.inFrontend(`modprobe -a virtio_pci virtiofs; mkdir -p ${SHARED}`);
    this.#say('the frontend VM is up');
  }

  async mount(): Promise<void> {
    await this.inFrontend(`mount -t virtiofs ${TAG} ${SHARED}`);
    this.#say('the folder is mounted (boot to first request)');
  }

  /** Runs a shell command where the folder comes from. */
  inAppliance(command: string): Promise<string[]> {
    return this.appliance.vm.shell(command, GUEST_TIMEOUT);
  }

  /** Runs a shell command where it is mounted. */
  inFrontend(command: string): Promise<string[]> {
    const { frontend } = this;
    if (frontend === undefined) throw new Error('the frontend is not running');
    return this.appliance.whileServed(frontend.shell(command, GUEST_TIMEOUT));
  }

  async close(): Promise<void> {
    await this.frontend?.close();
    await this.appliance.close();
  }

  async #startDaemon(): Promise<void> {
    const { socket } = this.appliance.service(0);
    await this.inAppliance(`mkdir -p ${SHARED} /var/run`);
    // Its namespaces would need pivot_root, which an initramfs cannot do.
    const options = `-o source=${SHARED} -o sandbox=chroot`;
    await this.appliance.startBackend(`${VIRTIOFSD} -f --socket-path=${socket} ${options}`);
    await this.appliance.listening(socket);
  }

  #say(line: string): void {
    this.options.say(`${((Date.now() - this.began) / 1000).toFixed(1)} s: ${line}`);
  }
}
