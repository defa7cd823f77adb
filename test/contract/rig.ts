import type { ExecutionContext } from 'ava';
import { VfioUserError } from 'vfio-ts-bindings';
import { findStructures, type DeviceStructures } from '../../src/guest/capabilities.js';
import type { PciAccess, WindowAccess } from '../../src/guest/pci-access.js';
import { rawDriver } from '../support/raw-access.js';
import type { GuestSetup, RawDriver } from '../support/raw-driver.js';
import type { Frontends } from '../support/raw-rig.js';
import type { ContractHost } from './hosts.js';

/** A device on some host, with a driver by hand. */
export interface ContractRig {
  readonly access: PciAccess;
  readonly guest: RawDriver;
  readonly device: Frontends;
  readonly structures: DeviceStructures;
  readonly window: WindowAccess;
}

/** Attaches a driver, which does nothing yet. */
export async function attach(t: ExecutionContext, host: ContractHost): Promise<ContractRig> {
  const { access, vhostUser } = await host.start(t);
  const structures = findStructures(access);
  const { bar, offset, length } = structures.window!;
  const window = access.openWindow(bar, offset, length);
  return { access, guest: rawDriver(access), device: { vhostUser }, structures, window };
}

/** Attaches a driver that is up and waits for frontends. */
export async function bringUp(
  t: ExecutionContext,
  host: ContractHost,
  setup?: GuestSetup,
): Promise<ContractRig> {
  const rig = await attach(t, host);
  rig.guest.start(setup);
  rig.guest.linkStatus = 1;
  return rig;
}

export function ring({ guest, structures }: ContractRig, doorbell: number): void {
  const { bar, offset, multiplier } = structures.doorbells!;
  guest.write(bar, offset + doorbell * multiplier, 2, doorbell);
}

/** @returns false when there is no such vector */
export function assignKick(rig: ContractRig, vring: number, vector: number): boolean {
  const { bar, offset } = rig.structures.notification!;
  rig.guest.write(bar, offset, 2, vring);
  rig.guest.write(bar, offset + 2, 2, vector);
  return rig.guest.read(bar, offset + 2, 2) === vector;
}

/**
 * A load as a VMM makes it for its guest: where the device refuses (vfio-user by an error, in
 * process by itself) the guest sees all ones.
 */
export function load({ access }: ContractRig, bar: number, offset: number, length: number): string {
  try {
    return access.barRead(bar, offset, length).toString('hex');
  } catch (error) {
    if (!(error instanceof VfioUserError)) throw error;
    return 'ff'.repeat(length);
  }
}

/** A store as a VMM makes it: a refusal is nothing to the guest. */
export function store({ access }: ContractRig, bar: number, offset: number, hex: string): void {
  try {
    access.barWrite(bar, offset, Buffer.from(hex, 'hex'));
  } catch (error) {
    if (!(error instanceof VfioUserError)) throw error;
  }
}
