/** Takes a PCI function over from whatever driver Linux gave it, and gives it back. */
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VvuError, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import type { Binding } from './pci-access.js';
import type { SysfsFunction } from './sysfs-function.js';

/** Drivers that leave a function to user space. */
export const USER_DRIVERS = ['vfio-pci', 'uio_pci_generic'] as const;
export type UserDriver = (typeof USER_DRIVERS)[number];

/** What the kernel prints for a function without driver_override. */
const NO_OVERRIDE = '(null)';

/**
 * Binds the function to `driver` by driver_override, whatever its ids. Loads the driver's module
 * where it is missing.
 * @returns what `close` gives it back with: to the driver and the override that it had. Close the
 * access object first; an error then is only logged
 * @throws VvuError `BIND`, scope `setup`; the function then has its old driver, as far as it lets
 */
export function bindDriver(
  device: SysfsFunction,
  driver: UserDriver,
  log: Logger = silentLogger,
): Binding {
  const before = { driver: device.driver, override: device.read('driver_override') };
  if (before.driver === driver) return { close: () => undefined };
  const restore = (): void => giveBack(device, before, log);
  try {
    loadDriver(device, driver);
    write(device, 'driver_override', driver);
    if (before.driver !== undefined) write(device, 'driver/unbind', device.address);
    writeFileSync(join(device.paths.sys, 'bus/pci/drivers_probe'), device.address);
    if (device.driver !== driver) {
      throw new Error(`${driver} does not take it${needsIommu(device, driver)}`);
    }
  } catch (error) {
    restore();
    throw new VvuError(
      'BIND',
      'setup',
      `cannot bind ${device.address} to ${driver}: ${errorMessage(error)}`,
      { cause: error },
    );
  }
  log.info({ device: device.address, driver, from: before.driver ?? 'none' }, 'bound');
  let bound = true;
  return {
    close: () => {
      if (bound) restore();
      bound = false;
    },
  };
}

interface Before {
  readonly driver: string | undefined;
  readonly override: string;
}

function giveBack(device: SysfsFunction, before: Before, log: Logger): void {
  try {
    if (device.driver !== undefined && device.driver !== before.driver) {
      write(device, 'driver/unbind', device.address);
    }
    // An empty line takes the override away.
    write(device, 'driver_override', before.override === NO_OVERRIDE ? '\n' : before.override);
    if (before.driver !== undefined && device.driver === undefined) {
      writeFileSync(
        join(device.paths.sys, 'bus/pci/drivers', before.driver, 'bind'),
        device.address,
      );
    }
    log.info({ device: device.address, driver: device.driver ?? 'none' }, 'given back');
  } catch (error) {
    log.warn({ device: device.address, error: errorMessage(error) }, 'not given back');
  }
}

function loadDriver(device: SysfsFunction, driver: UserDriver): void {
  if (existsSync(join(device.paths.sys, 'bus/pci/drivers', driver))) return;
  const { error, status, stderr } = spawnSync('modprobe', [driver], { encoding: 'utf8' });
  if (error === undefined && status === 0) return;
  const reason = error?.message ?? stderr.trim().split('\n')[0] ?? '';
  throw new Error(`the kernel has no driver ${driver} (modprobe: ${reason || `status ${status}`})`);
}

function needsIommu(device: SysfsFunction, driver: UserDriver): string {
  return driver === 'vfio-pci' && device.iommuGroup === undefined
    ? ': it has no IOMMU in front of it, use uio_pci_generic'
    : '';
}

function write(device: SysfsFunction, attribute: string, value: string): void {
  writeFileSync(join(device.path, attribute), value);
}
