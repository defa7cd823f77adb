/** BARs through the resource files of sysfs. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VvuError, errorCode, errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import type { Native } from '../native.js';
import { BarRegisters } from './bar-registers.js';
import { mappedWindow } from './mapped-window.js';
import type { WindowAccess } from './pci-access.js';
import { RegionAreas } from './region-areas.js';
import type { SysfsFunction } from './sysfs-function.js';

/**
 * How the window is mapped. Memory types matter only where the hypervisor lets the guest's page
 * attributes through (docs/guest.md): there, write-combining stores are fast and *unordered*, which
 * vhost-user backends for x86 do not expect of memory.
 */
export type WindowCaching = 'auto' | 'uncached' | 'write-combining';

const PAGE = 4096;
/** Makers of CPUs whose nested paging always combines the guest's attributes with the host's. */
const HONOUR_GUEST_ATTRIBUTES = /^vendor_id\s*:\s*(AuthenticAMD|HygonGenuine)$/m;

/** Owns the files and mappings of one function. */
export class SysfsBars {
  private readonly registers = new Map<number, BarRegisters>();
  private readonly windows: RegionAreas[] = [];
  private readonly fds = new Map<string, number>();

  constructor(
    private readonly native: Native,
    private readonly device: SysfsFunction,
    private readonly log: Logger,
    private readonly caching: WindowCaching = 'auto',
  ) {}

  /** Whether the kernel lets the BAR be mapped here: not when a driver has claimed it. */
  mappable(bar: number): boolean {
    try {
      const place = { offset: 0, length: PAGE, writable: true };
      this.native.map(this.open(`resource${bar}`), place).release();
      return true;
    } catch (error) {
      if (errorCode(error) === 'EINVAL') return false;
      throw error;
    }
  }

  /** The registers of a BAR, all of it mapped. */
  of(bar: number, length: number): BarRegisters {
    let registers = this.registers.get(bar);
    if (registers === undefined) {
      const fd = this.open(`resource${bar}`);
      const memory = this.guarded(bar, () =>
        this.native.map(fd, { offset: 0, length, writable: true }),
      );
      registers = new BarRegisters(this.native, memory, { fd, offset: 0 });
      this.registers.set(bar, registers);
    }
    return registers;
  }

  /**
   * Maps a window, write-combining where that is wanted and possible.
   * @throws VvuError `WINDOW_RANGE` or `BAR_CLAIMED`, scope `setup`
   */
  openWindow(bar: number, offset: number, length: number): WindowAccess {
    const resource = this.device.resources[bar];
    if (resource === undefined || !(length > 0) || offset + length > resource.size) {
      throw new VvuError('WINDOW_RANGE', 'setup', `BAR ${bar} has no ${offset} + ${length}`);
    }
    const areas = new RegionAreas(this.native, resource.size);
    const names = [`resource${bar}`];
    if (resource.prefetchable && this.combines()) names.unshift(`resource${bar}_wc`);
    const used = this.mapFirst(areas, names, bar, offset, length);
    this.windows.push(areas);
    this.log.info({ device: this.device.address, file: used, offset, length }, 'window mapped');
    return mappedWindow(this.native, areas, offset, length);
  }

  close(): void {
    for (const registers of this.registers.values()) registers.close();
    this.registers.clear();
    for (const areas of this.windows.splice(0)) areas.clear();
    for (const fd of this.fds.values()) this.native.closeFd(fd);
    this.fds.clear();
  }

  private mapFirst(
    areas: RegionAreas,
    names: readonly string[],
    bar: number,
    offset: number,
    length: number,
  ): string {
    let failure: Error | undefined;
    for (const name of names) {
      if (!existsSync(join(this.device.path, name))) continue;
      const fd = this.open(name);
      const place = { offset, length, fd, fileOffset: offset, readable: true, writable: true };
      try {
        areas.apply([{ kind: 'map', ...place }]);
        return name;
      } catch (error) {
        failure = error instanceof Error ? error : new Error(String(error));
      }
    }
    return this.guarded(bar, () => {
      throw failure ?? new VvuError('NO_BAR', 'setup', `${this.device.address} has no BAR ${bar}`);
    });
  }

  private combines(): boolean {
    if (this.caching !== 'auto') return this.caching === 'write-combining';
    try {
      return !HONOUR_GUEST_ATTRIBUTES.test(readFileSync('/proc/cpuinfo', 'utf8'));
    } catch {
      return false;
    }
  }

  private open(name: string): number {
    let fd = this.fds.get(name);
    if (fd === undefined) {
      fd = this.native.openFile(join(this.device.path, name), { writable: true });
      this.fds.set(name, fd);
    }
    return fd;
  }

  /** Kernels with CONFIG_IO_STRICT_DEVMEM refuse to map what a driver has claimed, with EINVAL. */
  private guarded<T>(bar: number, body: () => T): T {
    try {
      return body();
    } catch (error) {
      const { address, driver } = this.device;
      if (errorCode(error) !== 'EINVAL') throw error;
      throw new VvuError(
        'BAR_CLAIMED',
        'setup',
        `BAR ${bar} of ${address} cannot be mapped: ${driver ?? 'another process'} has claimed it (${errorMessage(error)})`,
        { cause: error },
      );
    }
  }
}
