import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { STORAGE_DAEMON } from '../../support/appliance-image.js';
import { MKE2FS } from '../../support/frontend-image.js';
import { scenarioKits, type ScenarioKits } from '../../support/vm-kit.js';
import type { Lab, LabKind, LabOptions, LabVm } from '../lab.js';
import { fileDiskArguments, vhostUserArguments, type GuestMemory } from '../qemu-arguments.js';
import { Vm, type VmOptions } from '../qemu.js';
import { Appliance } from './appliance.js';

export interface BlkLabOptions extends LabOptions {
  readonly diskMib: number;
  /** One device, one disk and one frontend for each; see {@link Appliance}. */
  readonly frontends: readonly GuestMemory[];
}

const GUEST_TIMEOUT = 300_000;
const SHOWN_MIB = 16;
/**
 * qemu-storage-daemon 7.2 says in its configuration that it writes through, and does not: a guest
 * that can read it (CONFIG_WCE) never flushes. Without it FLUSH counts.
 */
const FLUSHED = { 'config-wce': false };
/** Of the noise that a file consists of, so that the guest need not make all of it. */
const NOISE = 4 * 2 ** 20;

/**
 * An appliance VM in which qemu-storage-daemon exports each of the VM's disks to a frontend VM.
 * The disks are files of the host (`disk-0` and so on in the folder), which show what has arrived.
 */
export class BlkLab implements Lab {
  readonly #frontends = new Map<number, Vm>();

  private constructor(
    private readonly began: number,
    readonly appliance: Appliance,
    private readonly kits: ScenarioKits,
    readonly options: BlkLabOptions,
  ) {}

  static async start(kits: ScenarioKits, options: BlkLabOptions): Promise<BlkLab> {
    const began = Date.now();
    const { folder, diskMib, frontends, say, deviceLog } = options;
    const disks = frontends.map((_, index) => join(folder, `disk-${index}`));
    for (const disk of disks) {
      await writeFile(disk, '');
      await truncate(disk, diskMib * 2 ** 20);
    }
    const args = disks.flatMap((path, index) => fileDiskArguments(`disk${index}`, path));
    const appliance = await Appliance.start(kits.appliance, frontends, args, deviceLog);
    const lab = new BlkLab(began, appliance, kits, options);
    try {
      lab.#say(`the appliance VM is up, with ${disks.length} device(s)`);
      await lab.#startDaemon();
      await appliance.startBridge();
      lab.#say('vvu bridge and qemu-storage-daemon run in it');
      return lab;
    } catch (error) {
      say(await appliance.log());
      await lab.close();
      throw error;
    }
  }

  get vms(): LabVm[] {
    const hints = ['mount -t ext4 /dev/vda /mnt && ls -l /mnt', 'cat /sys/block/vda/stat'];
    return [
      { vm: this.appliance.vm, hints: ['tail /tmp/bridge.err', 'cat /sys/block/vda/stat'] },
      ...[...this.#frontends.values()].map((vm) => ({ vm, hints })),
    ];
  }

  async show(): Promise<void> {
    const { files, read, errors, bytesWritten, bytesRead, seconds } = await this.writeFiles(
      0,
      SHOWN_MIB,
    );
    const { say } = this.options;
    say(`frontend-0 made an ext4 and wrote ${files.length} files in ${seconds.write.toFixed(1)} s`);
    say(`mounted again and read in ${seconds.read.toFixed(1)} s, ${errors} errors`);
    say(files.join() === read.join() ? 'SHA-256 of all files equal' : 'files DAMAGED');
    say(`its disk has counted ${bytesWritten} bytes written, ${bytesRead} bytes read`);
  }

  /** Where the host keeps the disk of a frontend. */
  disk(index: number): string {
    return join(this.options.folder, `disk-${index}`);
  }

  /**
   * Boots a frontend VM, in place of an earlier one, and waits until it has read from its disk, which
   * it calls vda.
   */
  async startFrontend(index: number, options: VmOptions = {}): Promise<Vm> {
    await this.stopFrontend(index);
    const { device, memory } = this.appliance.service(index);
    const boot = async (): Promise<Vm> => {
      const vm = await Vm.start(this.kits.frontend, {
        name: `frontend-${index}`,
        ...options,
        memory,
        args: vhostUserArguments('vhost-user-blk-pci', device.vhostUser, FLUSHED),
      });
      this.#frontends.set(index, vm);
      await vm.shell('modprobe -a virtio_pci virtio_blk', GUEST_TIMEOUT);
      await vm.shell('dd if=/dev/vda of=/dev/null bs=4096 count=1 2>/dev/null', GUEST_TIMEOUT);
      return vm;
    };
    const vm = await this.appliance.whileServed(boot());
    this.#say(`frontend ${index}: the first request is answered (boot to first request)`);
    return vm;
  }

  /**
   * Makes an ext4 on the frontend's disk, writes files, and reads them back from the backend, with
   * nothing left in the frontend's caches.
   */
  async writeFiles(index: number, mib: number): Promise<Written> {
    const vm = this.frontend(index);
    const run = (command: string): Promise<string[]> =>
      this.appliance.whileServed(vm.shell(command, GUEST_TIMEOUT));
    await run(`mkdir -p /tmp /mnt; ${MKE2FS} -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt`);
    await run(`head -c ${NOISE} /dev/urandom > /noise`);
    const began = Date.now();
    // A number before the noise makes each file another one.
    const count = Math.ceil((mib * 2 ** 20) / NOISE);
    const list = `$(seq ${count})`;
    await run(`for i in ${list}; do (echo $i; cat /noise) > /mnt/$i || exit 1; done; sync`);
    const seconds = (Date.now() - began) / 1000;
    const sums = 'cd /mnt && sha256sum $(ls | grep -v lost)';
    const written = await run(sums);
    await run('umount /mnt; echo 3 > /proc/sys/vm/drop_caches; mount -t ext4 /dev/vda /mnt');
    const reading = Date.now();
    const read = await run(sums);
    const readSeconds = (Date.now() - reading) / 1000;
    const [errors = '0'] = await run('cat /sys/fs/ext4/vda/errors_count');
    await run('umount /mnt');
    const [stat = ''] = await run('cat /sys/block/vda/stat');
    const faults = await run('dmesg | grep -E "I/O error|virtio_blk.*fail" || true');
    const [, , sectorsRead = 0, , , , sectorsWritten = 0] = stat.trim().split(/ +/).map(Number);
    return {
      files: written,
      read,
      errors: Number(errors) + faults.length,
      bytesWritten: 512 * sectorsWritten,
      bytesRead: 512 * sectorsRead,
      seconds: { write: seconds, read: readSeconds },
    };
  }

  /** Ends its VM, so that another one can take its place. */
  async stopFrontend(index: number): Promise<void> {
    await this.#frontends.get(index)?.close();
    this.#frontends.delete(index);
  }

  async close(): Promise<void> {
    for (const index of this.#frontends.keys()) await this.stopFrontend(index);
    await this.appliance.close();
  }

  /** One that runs. */
  frontend(index: number): Vm {
    const vm = this.#frontends.get(index);
    if (vm === undefined) throw new Error(`frontend ${index} is not running`);
    return vm;
  }

  async #startDaemon(): Promise<void> {
    const { vm, services } = this.appliance;
    await vm.shell('modprobe -a virtio_pci virtio_blk');
    const exports = services.map(({ socket }, index) => {
      const letter = String.fromCharCode('a'.charCodeAt(0) + index);
      const disk = `driver=host_device,node-name=disk${index},filename=/dev/vd${letter}`;
      const address = `addr.type=unix,addr.path=${socket}`;
      const name = `type=vhost-user-blk,id=export${index},node-name=disk${index}`;
      return `--blockdev ${disk} --export ${name},writable=on,${address}`;
    });
    await this.appliance.startBackend(`${STORAGE_DAEMON} ${exports.join(' ')}`);
    for (const { socket } of services) await this.appliance.listening(socket);
  }

  #say(line: string): void {
    this.options.say(`${((Date.now() - this.began) / 1000).toFixed(1)} s: ${line}`);
  }
}

export interface Written {
  /** SHA-256 and name of each file, before and after. */
  readonly files: readonly string[];
  readonly read: readonly string[];
  /** What the file system and the kernel's log complain of. */
  readonly errors: number;
  /** What the frontend's disk has counted since it was there, in bytes. */
  readonly bytesWritten: number;
  readonly bytesRead: number;
  readonly seconds: { readonly write: number; readonly read: number };
}

export const blkLabKind: LabKind = {
  summary: 'qemu-storage-daemon in an appliance VM serves its disk to a Linux VM',
  picture: `
  frontend-0 (Linux)             appliance (Linux)
  virtio_blk  <-- its RAM is a PCI BAR --> qemu-storage-daemon --> /dev/vda, a file of the host
       |                        vvu bridge
       +--vhost-user-- vvu device --vfio-user--+`,
  async start(options) {
    const frontends = [{ size: '192M', path: join(options.folder, 'ram') }];
    const lab = await BlkLab.start(await scenarioKits(), { ...options, frontends, diskMib: 64 });
    await lab.startFrontend(0);
    return lab;
  },
};
