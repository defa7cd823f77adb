import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { PciAccess } from '../../src/guest/pci-access.js';
import { VfioUserPciAccess } from '../../src/guest/vfio-user-access.js';
import { testDirectory } from '../guest/rig.js';
import { Machine, type MachineKinds } from '../support/machine.js';
import { MachineAccess } from '../support/machine-access.js';
import { DeviceProcess } from '../vm/device-process.js';

/** Those that differ in places alone. */
export type ContractLayout = 'split' | 'rfc';

/** A device as the contract suite sees it, whatever host shows it. */
export interface ContractDevice {
  readonly access: PciAccess;
  /** Where frontends connect. */
  readonly vhostUser: string;
}

/** A host that shows a device of 256 vrings with a window of 64 MiB to a driver. */
export interface ContractHost {
  readonly name: string;
  readonly layout: ContractLayout;
  /** Whether page-aligned regions are mapped into the guest, or all accesses to them trapped. */
  readonly window: 'mapped' | 'trapped';
  readonly start: (t: ExecutionContext) => Promise<ContractDevice>;
}

function inProcess(kinds: Required<MachineKinds>, layout: ContractLayout = 'split'): ContractHost {
  const { memory, window, interrupts, doorbells } = kinds;
  return {
    name: `in-process, ${memory}, ${window}, MSI by ${interrupts}, ${doorbells}, ${layout}`,
    layout,
    window,
    start: (t) => {
      const vhostUser = join(testDirectory(t), 'vhost-user');
      const machine = new Machine(vhostUser, kinds, { layout });
      t.teardown(() => machine.close());
      return Promise.resolve({ access: new MachineAccess(machine), vhostUser });
    },
  };
}

interface VfioUserKinds {
  readonly window: 'mapped' | 'trapped';
  readonly layout?: ContractLayout;
  /** A device that traces answers every access in JavaScript. */
  readonly trace?: boolean;
}

function vfioUser({ window, layout = 'split', trace = false }: VfioUserKinds): ContractHost {
  const args = trace ? ['--log-level', 'trace'] : [];
  // One process for all tests of a file: what a client leaves behind must not reach the next.
  let device: Promise<DeviceProcess> | undefined;
  test.after.always(() => device?.then((started) => started.close()).catch(() => undefined));
  return {
    name: `vfio-user, ${window}, ${layout}${trace ? ', traced' : ''}`,
    layout,
    window,
    start: async (t) => {
      device ??= DeviceProcess.start({ layout, window: 'size=64M', args });
      device.catch(() => (device = undefined));
      const { vfioUser: path, vhostUser } = await device;
      const access = await VfioUserPciAccess.connect(path, { regionRemap: window === 'mapped' });
      t.teardown(() => access.close());
      return { access, vhostUser };
    },
  };
}

const native = { memory: 'segments', interrupts: 'eventfd' } as const;
const scripted = { memory: 'accessor', interrupts: 'message' } as const;

export const HOSTS: readonly ContractHost[] = [
  inProcess({ ...native, window: 'mapped', doorbells: 'ioeventfd' }),
  inProcess({ ...native, window: 'trapped', doorbells: 'trapped' }),
  inProcess({ ...scripted, window: 'mapped', doorbells: 'ioeventfd' }),
  inProcess({ ...scripted, window: 'trapped', doorbells: 'trapped' }),
  inProcess({ ...native, window: 'mapped', doorbells: 'trapped' }, 'rfc'),
  inProcess({ ...scripted, window: 'trapped', doorbells: 'ioeventfd' }, 'rfc'),
  vfioUser({ window: 'mapped' }),
  vfioUser({ window: 'trapped' }),
  vfioUser({ window: 'mapped', layout: 'rfc' }),
  vfioUser({ window: 'trapped', trace: true }),
];
