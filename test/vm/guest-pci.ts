import type { Vm } from './qemu.js';

/** A function as the guest's kernel lists it. */
export interface PciFunction {
  readonly bdf: string;
  /** `vvvv:dddd` in hexadecimal. */
  readonly id: string;
  /** Base class, sub-class and interface. */
  readonly class: number;
  readonly revision: number;
  /** Subsystem ids, as `id`. */
  readonly subsystem: string;
  /** The driver it is bound to, `-` without one. */
  readonly driver: string;
  readonly iommuGroup: string;
}

export interface PciResource {
  readonly bar: number;
  readonly start: bigint;
  readonly size: bigint;
  /** The kernel's IORESOURCE flags. */
  readonly flags: number;
}

export const RESOURCE_MEMORY = 0x200;
export const RESOURCE_PREFETCH = 0x2000;
export const RESOURCE_64BIT = 0x100000;

export type Width = 1 | 2 | 4 | 8;

const DRIVERS = '/sys/bus/pci/drivers';
const DEVICES = '/sys/bus/pci/devices';

/** All PCI functions of the guest, in address order. */
export async function listFunctions(vm: Vm): Promise<PciFunction[]> {
  const functions = (await vm.run('pci-list')).map((line): PciFunction => {
    const [bdf = '', id = '', cls = '', revision = '', subsystem = '', driver = '', group = ''] =
      line.split(' ');
    return {
      bdf,
      id,
      class: parseInt(cls, 16),
      revision: parseInt(revision, 16),
      subsystem,
      driver,
      iommuGroup: group,
    };
  });
  return functions.sort((a, b) => (a.bdf < b.bdf ? -1 : 1));
}

/**
 * One PCI function, driven from the host by way of the guest's probe.
 *
 * BARs are reached through VFIO while the function is open there, else through sysfs.
 */
export class GuestPci {
  constructor(
    readonly vm: Vm,
    readonly bdf: string,
  ) {}

  /** The only function with this `vvvv:dddd`. */
  static async find(vm: Vm, id: string): Promise<GuestPci> {
    const found = (await listFunctions(vm)).filter((each) => each.id === id);
    const only = found[0];
    if (only === undefined || found.length > 1) throw new Error(`${found.length} functions ${id}`);
    return new GuestPci(vm, only.bdf);
  }

  /**
   * The same BARs through sysfs' resource files, even while the function is open in VFIO; works
   * for those that VFIO has not claimed by an access of its own.
   */
  get sysfs(): GuestPci {
    return new GuestPci(this.vm, `@${this.bdf}`);
  }

  async describe(): Promise<PciFunction> {
    const found = (await listFunctions(this.vm)).find((each) => each.bdf === this.bdf);
    if (found === undefined) throw new Error(`${this.bdf} is gone`);
    return found;
  }

  async resources(): Promise<PciResource[]> {
    return (await this.vm.run(`pci-resources ${this.bdf}`)).map((line) => {
      const [bar = '', start = '', size = '', flags = ''] = line.split(' ');
      return { bar: Number(bar), start: BigInt(start), size: BigInt(size), flags: Number(flags) };
    });
  }

  async config(): Promise<Buffer> {
    const [hex = ''] = await this.vm.run(`cfg-dump ${this.bdf}`);
    return Buffer.from(hex, 'hex');
  }

  configRead(offset: number, width: Width): Promise<number> {
    return this.#number(`cfg-read ${this.bdf} ${offset} ${width}`);
  }

  async configWrite(offset: number, width: Width, value: number): Promise<void> {
    await this.vm.run(`cfg-write ${this.bdf} ${offset} ${width} ${value}`);
  }

  /** One load of a BAR; for more than 53 bits use `read64`. */
  read(bar: number, offset: number, width: Width): Promise<number> {
    return this.#number(`bar-read ${this.bdf} ${bar} ${offset} ${width}`);
  }

  async read64(bar: number, offset: number): Promise<bigint> {
    const [value = ''] = await this.vm.run(`bar-read ${this.bdf} ${bar} ${offset} 8`);
    return BigInt(value);
  }

  /** One store into a BAR. */
  async write(bar: number, offset: number, width: Width, value: number | bigint): Promise<void> {
    await this.vm.run(`bar-write ${this.bdf} ${bar} ${offset} ${width} ${value}`);
  }

  /** Stores the pattern of pattern.ts into a range of a BAR. */
  async fill(bar: number, offset: number, length: number, seed: number): Promise<void> {
    await this.vm.run(`bar-fill ${this.bdf} ${bar} ${offset} ${length} ${seed}`, 60_000);
  }

  /** How many 8-byte words of a range differ from the pattern, and where the first one is. */
  async check(bar: number, offset: number, length: number, seed: number): Promise<string> {
    const command = `bar-check ${this.bdf} ${bar} ${offset} ${length} ${seed}`;
    const [answer = ''] = await this.vm.run(command, 60_000);
    return answer;
  }

  /** Of the 8-byte words at every `stride` bytes: how many are `word`, and how many are not 0. */
  async count(
    bar: number,
    offset: number,
    length: number,
    { word, stride }: { word: bigint; stride: number },
  ): Promise<{ equal: number; nonzero: number }> {
    const place = `${this.bdf} ${bar} ${offset} ${length}`;
    const [answer = ''] = await this.vm.run(`bar-count ${place} ${stride} ${word}`, 300_000);
    const [equal = NaN, nonzero = NaN] = answer.split(' ').map(Number);
    return { equal, nonzero };
  }

  /** Memory decoding and bus mastering, as a driver's probe would switch them on. */
  async enable(): Promise<void> {
    await this.configWrite(0x04, 2, (await this.configRead(0x04, 2)) | 0x6);
  }

  /** The kernel's reset of this function, which is an FLR where there is one. */
  async reset(): Promise<void> {
    await this.vm.shell(`echo 1 > ${DEVICES}/${this.bdf}/reset`);
  }

  /** Binds to this driver only, whatever the device's ids. */
  async bind(driver: string): Promise<void> {
    await this.unbind();
    await this.vm.shell(`echo ${driver} > ${DEVICES}/${this.bdf}/driver_override`);
    await this.vm.shell(`echo ${this.bdf} > ${DRIVERS}/${driver}/bind`);
  }

  async unbind(): Promise<void> {
    await this.vm.run('bar-close');
    const { driver } = await this.describe();
    if (driver !== '-') await this.vm.shell(`echo ${this.bdf} > ${DRIVERS}/${driver}/unbind`);
  }

  /** Takes the function over with VFIO; a vIOMMU is needed. */
  async openVfio(): Promise<void> {
    await this.bind('vfio-pci');
    await this.vm.run(`vfio-open ${this.bdf}`);
  }

  async closeVfio(): Promise<void> {
    await this.vm.run('vfio-close');
    await this.unbind();
  }

  /** Gives the first `count` MSI-X vectors an eventfd each; the function is open in VFIO. */
  async enableInterrupts(count: number): Promise<void> {
    await this.vm.run(`irq-enable ${count}`);
  }

  async disableInterrupts(): Promise<void> {
    await this.vm.run('irq-disable');
  }

  /** How often the vector fired since the last call; waits at most `timeout` for a first time. */
  interrupts(vector: number, timeout: number): Promise<number> {
    return this.#number(`irq-wait ${vector} ${timeout}`, timeout + 10_000);
  }

  async #number(command: string, timeout?: number): Promise<number> {
    const [value = ''] = await this.vm.run(command, timeout);
    return Number(value);
  }
}
