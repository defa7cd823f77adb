import { join } from 'node:path';
import { VIRTIOFSD } from '../../support/appliance-image.js';
import { scenarioKits, type ScenarioKits } from '../../support/vm-kit.js';
import type { Lab, LabKind, LabOptions, LabVm } from '../lab.js';
import { vhostUserArguments } from '../qemu-arguments.js';
import { Vm } from '../qemu.js';
import { Appliance } from './appliance.js';

/** The folder, in the appliance and in the frontend. */
export const SHARED = '/tmp/shared';
export const TAG = 'shared';
const FRONTEND_MEMORY = '192M';
const GUEST_TIMEOUT = 300_000;
const SHOWN_MIB = 16;

/** An appliance VM in which virtiofsd shares a folder with a frontend VM. */
export class FsLab implements Lab {
  frontend: Vm | undefined;

  private constructor(
    private readonly began: number,
    readonly appliance: Appliance,
    private readonly kits: ScenarioKits,
    readonly options: LabOptions,
  ) {}

  /** Starts both VMs; the folder is not mounted yet. */
  static async start(kits: ScenarioKits, options: LabOptions): Promise<FsLab> {
    const began = Date.now();
    const { folder, deviceLog } = options;
    const frontends = [{ size: FRONTEND_MEMORY, path: join(folder, 'ram') }];
    const appliance = await Appliance.start(kits.appliance, frontends, [], deviceLog);
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
      name: 'frontend-0',
      memory,
      args: vhostUserArguments('vhost-user-fs-pci', device.vhostUser, { tag: TAG }),
    });
    this.frontend = await this.appliance.whileServed(boot);
    await this.inFrontend(`modprobe -a virtio_pci virtiofs; mkdir -p ${SHARED}`);
    this.#say('the frontend VM is up');
  }

  get vms(): LabVm[] {
    const hints = [`echo hello > ${SHARED}/hello`, `ls -l ${SHARED}`];
    const vms = [{ vm: this.appliance.vm, hints: [`ls -l ${SHARED}`, 'tail /tmp/bridge.err'] }];
    return this.frontend === undefined ? vms : [...vms, { vm: this.frontend, hints }];
  }

  async show(): Promise<void> {
    const { say } = this.options;
    const mounted = `grep -q " ${SHARED} " /proc/mounts`;
    await this.inFrontend(`${mounted} || mount -t virtiofs ${TAG} ${SHARED}`);
    const bytes = SHOWN_MIB * 2 ** 20;
    const write = `head -c ${bytes} /dev/urandom > ${SHARED}/noise && sync`;
    await this.inFrontend(`${write} && echo 3 > /proc/sys/vm/drop_caches`);
    const [here = ''] = await this.inFrontend(`sha256sum ${SHARED}/noise`);
    const [there = ''] = await this.inAppliance(`sha256sum ${SHARED}/noise`);
    say(`frontend-0 wrote ${bytes} bytes to ${SHARED}/noise and read them again`);
    say(here === there ? 'SHA-256 in both VMs equal' : 'the file is DAMAGED');
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

export const fsLabKind: LabKind = {
  summary: 'virtiofsd in an appliance VM shares a folder with a Linux VM',
  picture: `
  frontend-0 (Linux)             appliance (Linux)
  virtiofs    <-- its RAM is a PCI BAR --> virtiofsd --> ${SHARED}
       |                        vvu bridge
       +--vhost-user-- vvu device --vfio-user--+`,
  start: async (options) => FsLab.start(await scenarioKits(), options),
};
