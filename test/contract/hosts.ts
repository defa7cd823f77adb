import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { PciAccess } from '../../src/guest/pci-access.js';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';
import { testDirectory } from '../guest/rig.js';
import { Machine } from '../support/machine.js';
import { MachineAccess } from '../support/machine-access.js';
import { DeviceProcess } from '../vm/device-process.js';

/** A device as the contract suite sees it, whatever host shows it. */
export interface ContractDevice {
  readonly access: PciAccess;
  /** Where frontends connect. */
  readonly vhostUser: string;
}

export interface ContractHost {
  readonly name: string;
  readonly start: (t: ExecutionContext) => Promise<ContractDevice>;
}

const inProcess = (['segments', 'accessor'] as const).flatMap((memory) =>
  (['mapped', 'trapped'] as const).map((window): ContractHost => ({
    name: `in-process, memory by ${memory}, window ${window}`,
    start: (t) => {
      const vhostUser = join(testDirectory(t), 'vhost-user');
      const machine = new Machine(vhostUser, { memory, window });
      t.teardown(() => machine.close());
      return Promise.resolve({ access: new MachineAccess(machine), vhostUser });
    },
  })),
);

const vfioUser = [true, false].map((regionRemap): ContractHost => ({
  name: `vfio-user, window ${regionRemap ? 'mapped' : 'trapped'}`,
  start: async (t) => {
    const device = await DeviceProcess.start({ layout: 'split', window: 'size=64M' });
    t.teardown(() => device.close());
    const access = await VfioUserPciAccess.connect(device.vfioUser, { regionRemap });
    t.teardown(() => access.close());
    return { access, vhostUser: device.vhostUser };
  },
}));

export const HOSTS: readonly ContractHost[] = [...inProcess, ...vfioUser];
