import test, { type ExecutionContext } from 'ava';
import { join } from 'node:path';
import { NetFrontend } from '../../src/frontend/net-frontend.js';
import { runTraffic } from '../../src/frontend/traffic.js';
import { available, declareTests } from '../support/declare-tests.js';
import { NODE_GUEST_MEMORY } from '../support/node-guest-image.js';
import { temporaryFolder } from '../support/temporary.js';
import { nodeVmKit } from '../support/vm-kit.js';
import { DEVICE_ID } from './device-guest.js';
import { DeviceProcess } from './device-process.js';
import { GuestPci } from './guest-pci.js';
import { GuestProgram } from './guest-program.js';
import { vfioUserArguments } from './qemu-arguments.js';
import { Vm } from './qemu.js';

// The driver itself, in Node.js inside an unpatched QEMU's guest: it echoes packets of a frontend on
// the host through loads and stores of the window BAR.

const { value: kit, reason } = await available(nodeVmKit);
const vmTest = declareTests(reason);

const folder = await temporaryFolder('guest-driver', '/dev/shm');
test.after.always(() => folder.remove());

const UUID = '6a1b2c3d-0011-2233-4455-66778899aabb';
const PROGRAM = 'dist/test/vm/guest-node/echo.js';
const PACKETS = 20_000;

type Layout = 'split' | 'rfc';

interface Setup {
  readonly vm: Vm;
  readonly pci: GuestPci;
  readonly device: DeviceProcess;
  readonly preset: string;
}

async function setUp(t: ExecutionContext, layout: Layout, iommu: boolean): Promise<Setup> {
  const preset = join(folder.path, `window-${layout}-${iommu ? 'iommu' : 'plain'}`);
  const device = await DeviceProcess.start({
    layout,
    window: `path=${preset},size=16M,trapped=16M`,
    uuid: UUID,
  });
  t.teardown(async () => {
    if (!t.passed) t.log(device.log);
    await device.close();
  });
  const started = performance.now();
  const vm = await Vm.start(kit!, {
    iommu,
    memory: { size: NODE_GUEST_MEMORY },
    args: vfioUserArguments(device.vfioUser),
  });
  t.log(`guest with Node.js booted in ${Math.round(performance.now() - started)} ms`);
  t.teardown(async () => {
    if (!t.passed) t.log(vm.log);
    await vm.close();
  });
  return { vm, pci: await GuestPci.find(vm, DEVICE_ID), device, preset };
}

/** One frontend's visit: its RAM is the preset file, so the guest reaches it without an exit. */
async function visit(t: ExecutionContext, { device, preset }: Setup, what: string): Promise<void> {
  const frontend = NetFrontend.connect(device.vhostUser, {
    ram: { path: preset },
    timeoutMs: 20_000,
  });
  try {
    await frontend.start();
    const { sent, received, seconds } = await runTraffic(frontend, {
      packets: PACKETS,
      stallMs: 20_000,
    });
    t.is(received, sent);
    t.is(sent, PACKETS);
    const { corrupt, reordered } = frontend.totals;
    t.deepEqual({ corrupt, reordered }, { corrupt: 0, reordered: 0 });
    t.log(`${what}: ${sent} packets in ${seconds.toFixed(2)} s, ${Math.round(sent / seconds)}/s`);
    await frontend.stop();
  } finally {
    frontend.close();
  }
}

/** Brings the program up and through its life: two frontends, a reset, a third, the end. */
async function live(
  t: ExecutionContext,
  setup: Setup,
  how: { readonly args: string; readonly access: string; readonly interrupts?: boolean },
): Promise<void> {
  const { vm } = setup;
  const interrupts = how.interrupts ?? false;
  const started = performance.now();
  const args = `${PROGRAM} ${how.args}${interrupts ? ' --interrupts' : ''}`;
  const program = await GuestProgram.start(vm, 'echo', args);
  try {
    const up = await program.event('up');
    t.log(`up after ${Math.round(performance.now() - started)} ms: ${JSON.stringify(up)}`);
    t.like(up, { access: how.access, uuid: UUID.replaceAll('-', ''), windowFile: true });
    await visit(t, setup, `${how.args}, first frontend`);
    await program.event('disconnected');
    await visit(t, setup, 'after a reconnection');
    await program.signal('USR2');
    const report = await program.event('report');
    t.is(report['packets'], 2 * PACKETS);
    if (interrupts) t.true(Number(report['interrupts']) > 0 && Number(report['kicks']) > 0);
    t.log(`in the guest: ${JSON.stringify(report)}`);
    await program.signal('USR1');
    await program.event('reset');
    await visit(t, setup, 'after a reset');
    t.is(await program.stop(), 0);
  } catch (error) {
    t.log(await program.log());
    throw error;
  }
}

for (const layout of ['split', 'rfc'] as const) {
  vmTest(`layout ${layout}: the driver works through VFIO behind a vIOMMU`, async (t) => {
    t.timeout(180_000);
    const setup = await setUp(t, layout, true);
    const { pci } = setup;
    await live(t, setup, {
      args: `${pci.bdf} --bind vfio-pci`,
      access: 'VfioPciAccess',
      interrupts: true,
    });
    t.is((await pci.describe()).driver, '-', 'the function was given back');
    await pci.bind('vfio-pci');
    await live(t, setup, { args: `uuid:${UUID}`, access: 'VfioPciAccess' });
  });

  vmTest(`layout ${layout}: the driver works through sysfs`, async (t) => {
    t.timeout(180_000);
    const setup = await setUp(t, layout, false);
    await live(t, setup, { args: setup.pci.bdf, access: 'SysfsPciAccess' });
    await live(t, setup, {
      args: `uuid:${UUID} --bind uio_pci_generic`,
      access: 'SysfsPciAccess',
    });
  });
}
