/** A PCI function as Linux shows it under /sys/bus/pci: what it is, who drives it, its files. */
import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { VvuError, errorCode, errorMessage } from '../errors.js';

/** Where sysfs and device files are; tests have their own. */
export interface SystemPaths {
  readonly sys: string;
  readonly dev: string;
}

export const SYSTEM_PATHS: SystemPaths = { sys: '/sys', dev: '/dev' };

export interface PciResource {
  /** Bytes, 0 for a BAR that is not there. */
  readonly size: number;
  /** Memory, not I/O ports. */
  readonly memory: boolean;
  readonly prefetchable: boolean;
}

const IORESOURCE_MEM = 0x200;
const IORESOURCE_PREFETCH = 0x2000;
const BARS = 6;
const ADDRESS = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])$/i;

/** `0000:00:05.0`, also from `00:05.0`; undefined for anything else. */
export function parseAddress(text: string): string | undefined {
  const [, domain = '0000', rest] = ADDRESS.exec(text) ?? [];
  return rest === undefined ? undefined : `${domain}:${rest}`.toLowerCase();
}

/** Reads what it is asked for each time: drivers and groups change. */
export class SysfsFunction {
  readonly path: string;

  /** @param address as `parseAddress` returns it */
  constructor(
    readonly address: string,
    readonly paths: SystemPaths = SYSTEM_PATHS,
  ) {
    this.path = join(paths.sys, 'bus/pci/devices', address);
  }

  /** @throws VvuError `NO_DEVICE`, scope `setup` */
  static open(address: string, paths: SystemPaths = SYSTEM_PATHS): SysfsFunction {
    const found = new SysfsFunction(address, paths);
    if (!existsSync(found.path)) {
      throw new VvuError('NO_DEVICE', 'setup', `there is no PCI function ${address}`);
    }
    return found;
  }

  /** All functions, in address order. */
  static list(paths: SystemPaths = SYSTEM_PATHS): SysfsFunction[] {
    let names: string[];
    try {
      names = readdirSync(join(paths.sys, 'bus/pci/devices'));
    } catch {
      // A machine without PCI has no such folder.
      names = [];
    }
    return names.sort().map((name) => new SysfsFunction(name, paths));
  }

  get vendor(): number {
    return Number(this.read('vendor'));
  }

  get device(): number {
    return Number(this.read('device'));
  }

  /** The driver that holds the function. */
  get driver(): string | undefined {
    return this.linkName('driver');
  }

  get iommuGroup(): string | undefined {
    return this.linkName('iommu_group');
  }

  /** Whether an IOMMU translates its DMA: then physical addresses lead nowhere. */
  get translated(): boolean {
    if (this.iommuGroup === undefined) return false;
    try {
      return this.read('iommu_group/type') !== 'identity';
    } catch {
      return true;
    }
  }

  /** Name of its file in /dev/vfio/devices, where the kernel has such files. */
  get vfioDevice(): string | undefined {
    return this.entry('vfio-dev');
  }

  /** `uioN`, while a UIO driver holds it. */
  get uio(): string | undefined {
    return this.entry('uio');
  }

  /** The six BARs. */
  get resources(): PciResource[] {
    const lines = this.read('resource').split('\n').slice(0, BARS);
    return lines.map((line) => {
      const [start = 0n, end = 0n, flags = 0n] = line.trim().split(/\s+/).map(BigInt);
      const kind = Number(flags & 0xffffffffn);
      return {
        size: end > start ? Number(end - start) + 1 : 0,
        memory: (kind & IORESOURCE_MEM) !== 0,
        prefetchable: (kind & IORESOURCE_PREFETCH) !== 0,
      };
    });
  }

  /** @throws VvuError `NO_DEVICE`, scope `setup` */
  read(attribute: string): string {
    try {
      return readFileSync(join(this.path, attribute), 'utf8').trim();
    } catch (error) {
      throw new VvuError('NO_DEVICE', 'setup', `${this.address}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }

  private linkName(name: string): string | undefined {
    try {
      return basename(readlinkSync(join(this.path, name)));
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  private entry(folder: string): string | undefined {
    try {
      return readdirSync(join(this.path, folder))[0];
    } catch {
      return undefined;
    }
  }
}
