import { applianceImage } from './appliance-image.js';
import { frontendImage } from './frontend-image.js';
import { guestImage, type GuestImage } from './guest-image.js';
import { nodeGuestImage } from './node-guest-image.js';
import { Unavailable } from './packages.js';
import { qemuRoot, type RootedCommand } from './qemu-root.js';

/** All that starting a VM takes. */
export interface VmKit {
  readonly qemu: RootedCommand;
  readonly image: GuestImage;
}

/** The same with a guest that has Node.js and this project, see {@link nodeGuestImage}. */
export async function nodeVmKit(): Promise<VmKit> {
  if (process.getuid?.() !== 0) throw new Unavailable('only root can build and run test VMs');
  const [qemu, image] = await Promise.all([qemuRoot(), nodeGuestImage()]);
  return { qemu, image };
}

/** Downloads and builds what is not cached yet; throws `Unavailable` if the machine cannot. */
export async function vmKit(): Promise<VmKit> {
  if (process.getuid?.() !== 0) throw new Unavailable('only root can build and run test VMs');
  const [qemu, image] = await Promise.all([qemuRoot(), guestImage()]);
  return { qemu, image };
}

/** The same with a guest that also has packaged vhost-user backends, see {@link applianceImage}. */
export async function applianceKit(): Promise<VmKit> {
  if (process.getuid?.() !== 0) throw new Unavailable('only root can build and run test VMs');
  const [qemu, image] = await Promise.all([qemuRoot(), applianceImage()]);
  return { qemu, image };
}

/** What a scenario with an appliance VM and frontend VMs takes. */
export interface ScenarioKits {
  readonly appliance: VmKit;
  readonly frontend: VmKit;
}

export async function scenarioKits(): Promise<ScenarioKits> {
  const [appliance, image] = await Promise.all([applianceKit(), frontendImage()]);
  return { appliance, frontend: { qemu: appliance.qemu, image } };
}
