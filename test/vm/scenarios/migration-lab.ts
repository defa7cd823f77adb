import type { ExecutionContext } from 'ava';
import { join } from 'node:path';
import { startEchoBackend } from '../../support/echo-backend.js';
import { NODE_GUEST_MEMORY } from '../../support/node-guest-image.js';
import { temporaryFolder } from '../../support/temporary.js';
import type { VmKit } from '../../support/vm-kit.js';
import { DeviceProcess } from '../device-process.js';
import { GuestProgram } from '../guest-program.js';
import { vfioUserArguments, vhostUserNetArguments } from '../qemu-arguments.js';
import { Vm } from '../qemu.js';

export const MAC = '52:54:00:12:34:56';
const FRONTEND_MEMORY = '256M';
const PROGRAM = 'dist/test/vm/guest-node/echo.js';
const GUEST_TIMEOUT = 180_000;
const UUIDS = ['6a1b2c3d-0011-2233-4455-66778899aa00', '6a1b2c3d-0011-2233-4455-66778899aa01'];

/** A device for one of the two QEMUs between which a frontend VM migrates. */
interface Side {
  readonly device: DeviceProcess;
  readonly uuid: string;
  /** The window's preset file, and that QEMU's RAM. */
  readonly ram: string;
}

/** Waits for a request of the frontend, by how it is described. */
export type Said = (pattern: RegExp) => Promise<string>;

/** A source, and a destination that waits for it, each with a backend of its own. */
export interface MigrationLab {
  readonly source: Vm;
  readonly destination: Vm;
  /** What the backends were told: the source's, and the destination's. */
  readonly said: readonly [Said, Said];
  /** For `migrate`. */
  readonly uri: string;
}

/**
 * A vhost-user socket serves one frontend at a time, and a destination connects when its QEMU
 * starts: so there are two devices. The frontend's RAM is the preset file; the log, a memfd of QEMU, is trapped.
 * @param appliance the image of an appliance VM for the backends; undefined: on the host
 */
export async function startLab(
  t: ExecutionContext,
  kits: { readonly frontend: VmKit; readonly appliance?: VmKit },
): Promise<MigrationLab> {
  const folder = await temporaryFolder('migration', '/dev/shm');
  t.teardown(() => folder.remove());
  const sides: Side[] = [];
  for (const uuid of UUIDS) {
    const ram = join(folder.path, uuid);
    const window = `path=${ram},size=${FRONTEND_MEMORY},trapped=256M`;
    const device = await DeviceProcess.start({ layout: 'split', window, uuid });
    t.teardown(() => device.close());
    sides.push({ device, uuid, ram });
  }
  const [from, to] = sides;
  if (from === undefined || to === undefined) throw new Error('two sides');
  const { appliance } = kits;
  const said =
    appliance === undefined
      ? ([await onHost(t, from), await onHost(t, to)] as const)
      : await inAppliance(t, appliance, from, to);
  const start = async (side: Side, incoming: boolean): Promise<Vm> => {
    const vm = await Vm.start(kits.frontend, {
      memory: { size: FRONTEND_MEMORY, path: side.ram },
      args: vhostUserNetArguments({
        id: 'net',
        path: side.device.vhostUser,
        properties: { mac: MAC, 'disable-legacy': 'on' },
      }),
      incoming,
    });
    t.teardown(async () => {
      if (!t.passed) t.log(vm.log, side.device.log);
      await vm.close();
    });
    return vm;
  };
  const source = await start(from, false);
  const destination = await start(to, true);
  return { source, destination, said, uri: `unix:${join(folder.path, 'migration')}` };
}

async function onHost(t: ExecutionContext, { device }: Side): Promise<Said> {
  const backend = await startEchoBackend(device.vfioUser, { regionRemap: false });
  t.teardown(() => backend.stop());
  return async (pattern) => {
    for (let attempt = 0; attempt < 400; attempt++) {
      const found = backend.messages.find((message) => pattern.test(message));
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`no ${pattern} in\n${backend.messages.join('\n')}`);
  };
}

async function inAppliance(
  t: ExecutionContext,
  kit: VmKit,
  from: Side,
  to: Side,
): Promise<[Said, Said]> {
  const vm = await Vm.start(kit, {
    iommu: true,
    memory: { size: NODE_GUEST_MEMORY },
    args: [from, to].flatMap(({ device }) => vfioUserArguments(device.vfioUser)),
  });
  t.teardown(() => vm.close());
  const start = async (name: string, { uuid }: Side): Promise<Said> => {
    const args = `${PROGRAM} uuid:${uuid} --bind vfio-pci --interrupts`;
    const program = await GuestProgram.start(vm, name, args);
    t.teardown(async () => {
      if (!t.passed) t.log(await program.log().catch((error: unknown) => String(error)));
    });
    await program.event('up', GUEST_TIMEOUT);
    return async (pattern) => {
      for (;;) {
        const text = String((await program.event('message', GUEST_TIMEOUT))['text']);
        if (pattern.test(text)) return text;
      }
    };
  };
  return [await start('source', from), await start('destination', to)];
}
