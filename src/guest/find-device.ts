/** From `0000:00:05.0` or `uuid:…` to an open function of this guest. */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { VvuError, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import type { Native } from '../native.js';
import { bindDriver, type UserDriver } from './bind.js';
import { findStructures } from './capabilities.js';
import { ConfigFile } from './config-file.js';
import { COMMON_CONFIG_GENERATION, CONFIG_BYTES, CONFIG_UUID } from './constants.js';
import type { Binding, PciAccess } from './pci-access.js';
import { CommonConfig, Registers } from './registers.js';
import { SysfsPciAccess } from './sysfs-access.js';
import type { WindowCaching } from './sysfs-bars.js';
import { SYSTEM_PATHS, SysfsFunction, parseAddress, type SystemPaths } from './sysfs-function.js';
import { VfioPciAccess } from './vfio-access.js';

export interface FindOptions {
  readonly native?: Native;
  readonly logger?: Logger;
  readonly paths?: SystemPaths;
  readonly windowCaching?: WindowCaching;
  /** Bind the function to this driver first; the access's `close` gives it back. */
  readonly bind?: UserDriver;
  /** Use INTx of uio_pci_generic in place of polling. */
  readonly intx?: boolean;
}

const REDHAT_QUMRANET = 0x1af4;
/**
 * The RFC's ids (transitional, and 0x1040 + 24, which is virtio-mem's now), crosvm's, and the draft
 * specification's. The device can be given any other.
 */
const KNOWN_DEVICES = new Set([0x1017, 0x1058, 0x107d, 0x1060]);

/**
 * Opens a function of this guest through the driver that it is bound to: vfio-pci by VFIO,
 * uio_pci_generic or none by sysfs. With `bind` it is bound to that first.
 * @param name `0000:00:05.0`, `00:05.0`, or `uuid:` and the uuid that `vvu device` was given
 * @throws VvuError of scope `setup`, with one line that says what to do
 */
export function openGuestDevice(name: string, options: FindOptions = {}): PciAccess {
  const uuid = name.startsWith('uuid:') ? name.slice(5) : undefined;
  if (uuid !== undefined) return openFunction(findByUuid(uuid, options), options);
  const address = parseAddress(name);
  if (address === undefined) {
    throw new VvuError('BAD_DEVICE', 'setup', `${name} is no PCI address such as 0000:00:05.0`);
  }
  return openFunction(SysfsFunction.open(address, options.paths ?? SYSTEM_PATHS), options);
}

/**
 * The function whose device has this uuid. Functions that another process or driver uses cannot be
 * asked; with `bind`, those of drivers are taken over to be asked, and given back.
 * @throws VvuError `NO_DEVICE`, scope `setup`, which names those that could not be asked
 */
export function findByUuid(uuid: string, options: FindOptions = {}): SysfsFunction {
  const wanted = uuid.replaceAll('-', '').toLowerCase();
  const closed: string[] = [];
  for (const device of SysfsFunction.list(options.paths ?? SYSTEM_PATHS)) {
    if (!isCandidate(device)) continue;
    try {
      if (readUuid(device, options) === wanted) return device;
    } catch (error) {
      closed.push(errorMessage(error));
    }
  }
  const rest = closed.length === 0 ? '' : ` (not asked: ${closed.join('; ')})`;
  throw new VvuError('NO_DEVICE', 'setup', `no PCI function has the uuid ${uuid}${rest}`);
}

/**
 * Whether the function looks like a virtio-vhost-user device, by its configuration space: nothing
 * else is bound to another driver, or its registers read, only to be asked.
 */
function isCandidate(device: SysfsFunction): boolean {
  if (device.vendor === REDHAT_QUMRANET && KNOWN_DEVICES.has(device.device)) return true;
  const { driver, resources } = device;
  if (driver !== undefined && driver !== 'vfio-pci' && driver !== 'uio_pci_generic') return false;
  let fd: number | undefined;
  try {
    fd = openSync(join(device.path, 'config'), 'r');
    const config = new ConfigFile(fd);
    const { doorbells, window } = findStructures({
      configRead: (offset, length) => config.read(offset, length),
      barSize: (bar) => (resources[bar]?.memory === true ? resources[bar].size : 0),
    });
    return doorbells !== undefined && window !== undefined;
  } catch {
    // No virtio device at all, or nobody may look at it.
    return false;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function readUuid(device: SysfsFunction, options: FindOptions): string | undefined {
  const quiet = { ...options, logger: silentLogger, intx: false };
  const access = openFunction(device, quiet);
  try {
    return uuidOf(access)?.toString('hex');
  } finally {
    access.close();
  }
}

/** The uuid in the device's configuration; undefined where there is no virtio-vhost-user device. */
export function uuidOf(access: PciAccess): Buffer | undefined {
  let structures;
  try {
    structures = findStructures(access);
  } catch (error) {
    if (error instanceof VvuError && error.scope === 'setup') return undefined;
    throw error;
  }
  const vhostUser = structures.doorbells ?? structures.window;
  if (vhostUser === undefined || structures.device.length < CONFIG_BYTES) return undefined;
  const common = new CommonConfig(access, structures.common);
  const config = new Registers(access, structures.device);
  const uuid = Buffer.alloc(CONFIG_BYTES - CONFIG_UUID);
  for (let attempt = 0; attempt < 10; attempt++) {
    const generation = common.read8(COMMON_CONFIG_GENERATION);
    for (let at = 0; at < uuid.length; at += 4) {
      uuid.writeUInt32LE(config.read32(CONFIG_UUID + at), at);
    }
    if (common.read8(COMMON_CONFIG_GENERATION) === generation) break;
  }
  return uuid;
}

function openFunction(device: SysfsFunction, options: FindOptions): PciAccess {
  if (options.bind === undefined) return openBound(device, options);
  const binding = bindDriver(device, options.bind, options.logger);
  try {
    return closingBoth(openBound(device, options), binding);
  } catch (error) {
    binding.close();
    throw error;
  }
}

/** A function is given back only after its access object has let go of it. */
function closingBoth(access: PciAccess, binding: Binding): PciAccess {
  const close = access.close.bind(access);
  access.close = () => {
    close();
    binding.close();
  };
  return access;
}

/** For access objects that have MSI-X. */
export function noIntx(what: string): VvuError {
  return new VvuError('NO_INTX', 'setup', `${what}, which has MSI-X: run again without --intx`);
}

function openBound(device: SysfsFunction, options: FindOptions): PciAccess {
  const { driver, address } = device;
  if (driver === 'vfio-pci') {
    if (options.intx === true) throw noIntx(`${address} is bound to vfio-pci`);
    return new VfioPciAccess(device, options);
  }
  if (driver === 'uio_pci_generic' || driver === undefined) {
    return new SysfsPciAccess(device, options);
  }
  const advice = device.iommuGroup === undefined ? 'uio_pci_generic' : 'vfio-pci';
  throw new VvuError(
    'WRONG_DRIVER',
    'setup',
    `${address} is held by the driver ${driver}: run again with --bind ${advice}, ` +
      `or "driverctl set-override ${address} ${advice}"`,
  );
}
