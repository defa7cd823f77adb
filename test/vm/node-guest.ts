import type { ExecutionContext } from 'ava';
import { join } from 'node:path';
import { NetFrontend } from '../../src/frontend/net-frontend.js';
import { runTraffic } from '../../src/frontend/traffic.js';
import type { Layout } from '../../src/hosts/layout.js';
import { NODE_GUEST_MEMORY } from '../support/node-guest-image.js';
import type { VmKit } from '../support/vm-kit.js';
import { deviceId } from './device-guest.js';
import { DeviceProcess } from './device-process.js';
import { GuestPci } from './guest-pci.js';
import { vfioUserArguments } from './qemu-arguments.js';
import { Vm } from './qemu.js';

/** A guest that has Node.js and the project, with a device of `vvu device`. */
export interface NodeGuest {
  readonly vm: Vm;
  readonly pci: GuestPci;
  readonly device: DeviceProcess;
  /** The file that is the first part of the window. */
  readonly preset: string;
  readonly uuid: string;
}

export interface NodeGuestOptions {
  readonly layout: Layout;
  readonly iommu: boolean;
}

const UUID = '6a1b2c3d-0011-2233-4455-66778899aabb';
let guests = 0;

/** Boots it; all ends with the test. `folder` is for the preset file. */
export async function bootNodeGuest(
  t: ExecutionContext,
  kit: VmKit,
  folder: string,
  { layout, iommu }: NodeGuestOptions,
): Promise<NodeGuest> {
  const preset = join(folder, `window-${guests++}`);
  const device = await DeviceProcess.start({
    layout,
    window: `path=${preset},size=16M,trapped=16M`,
    uuid: UUID,
  });
  t.teardown(() => device.close());
  const started = performance.now();
  const vm = await Vm.start(kit, {
    iommu,
    memory: { size: NODE_GUEST_MEMORY },
    args: vfioUserArguments(device.vfioUser),
  });
  t.log(`guest with Node.js booted in ${Math.round(performance.now() - started)} ms`);
  t.teardown(async () => {
    if (!t.passed) t.log(vm.log, device.log);
    await vm.close();
  });
  const pci = await GuestPci.find(vm, deviceId(layout));
  // Newer kernels have virtio-pci built in, and it takes the id.
  if ((await pci.describe()).driver !== '-') await pci.unbind();
  return { vm, pci, device, preset, uuid: UUID };
}

/**
 * One frontend's visit on the host: its RAM is the preset file, so the guest reaches it without an
 * exit. All packets must come back unchanged and in order.
 * @returns how many calls it saw on its receive ring
 */
export async function visitDevice(
  t: ExecutionContext,
  { device, preset }: NodeGuest,
  what: string,
  packets: number,
): Promise<number> {
  const ram = { path: preset };
  const frontend = NetFrontend.connect(device.vhostUser, { ram, timeoutMs: 20_000 });
  try {
    await frontend.start();
    const { sent, received, seconds } = await runTraffic(frontend, { packets, stallMs: 20_000 });
    t.deepEqual({ sent, received }, { sent: packets, received: packets });
    const { corrupt, reordered } = frontend.totals;
    t.deepEqual({ corrupt, reordered }, { corrupt: 0, reordered: 0 });
    t.log(`${what}: ${sent} packets in ${seconds.toFixed(2)} s, ${Math.round(sent / seconds)}/s`);
    await frontend.stop();
    return frontend.takeCalls(0);
  } finally {
    frontend.close();
  }
}
