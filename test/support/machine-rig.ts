import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { VirtioVhostUserOptions } from '../../src/hosts/in-process/index.js';
import { testDirectory } from '../guest/rig.js';
import { Machine, type MachineKinds } from './machine.js';
import { MachineAccess } from './machine-access.js';
import { rawDriver } from './raw-access.js';
import type { RawDriver } from './raw-driver.js';
import type { Frontends } from './raw-rig.js';

/** A machine with a device in it, and a driver by hand that is up and waits for frontends. */
export interface MachineRig {
  readonly machine: Machine;
  readonly access: MachineAccess;
  readonly guest: RawDriver;
  readonly device: Frontends;
}

export function startMachine(
  t: ExecutionContext,
  kinds: Partial<MachineKinds> = {},
  options: Partial<Omit<VirtioVhostUserOptions, 'memory'>> = {},
): MachineRig {
  const vhostUser = join(testDirectory(t), 'vhost-user');
  const machine = new Machine(
    vhostUser,
    { memory: 'segments', window: 'mapped', ...kinds },
    options,
  );
  t.teardown(() => machine.close());
  const access = new MachineAccess(machine);
  const guest = rawDriver(access);
  guest.start();
  guest.linkStatus = 1;
  return { machine, access, guest, device: { vhostUser } };
}
