import test, { type ExecutionContext } from 'ava';
import { available, declareTests } from '../support/declare-tests.js';
import { temporaryFolder } from '../support/temporary.js';
import { nodeVmKit } from '../support/vm-kit.js';
import { GuestProgram } from './guest-program.js';
import { bootNodeGuest, visitDevice, type NodeGuest } from './node-guest.js';

// `vvu bridge` inside an unpatched QEMU's guest, and behind it a backend that knows nothing of the
// device: it maps the window BAR, wakes up on the vectors' eventfds and signals ours.

const { value: kit, reason } = await available(nodeVmKit);
const vmTest = declareTests(reason);

const folder = await temporaryFolder('guest-bridge', '/dev/shm');
test.after.always(() => folder.remove());

const PROGRAM = 'dist/src/cli/main.js bridge --json --log-level debug --socket /tmp/vhost.sock';
const PACKETS = 20_000;

/** Two frontends, then a backend that is killed and comes back, and a third one. */
async function live(
  t: ExecutionContext,
  guest: NodeGuest,
  how: { readonly args: string; readonly kicks: boolean; readonly packets?: number },
): Promise<void> {
  const { vm, device } = guest;
  const { packets = PACKETS } = how;
  const bridge = await GuestProgram.start(vm, 'bridge', `${PROGRAM} ${how.args}`);
  let backend = await GuestProgram.backend(vm, '/tmp/vhost.sock');
  try {
    await bridge.event('ready');
    for (const which of ['first', 'second']) {
      await backend.event('connected');
      const calls = await visitDevice(t, guest, `${how.args}, ${which} frontend`, packets);
      t.true(calls > 0, 'calls ring doorbells');
      const mapped = await backend.event('mapped');
      t.true(Number(mapped['size']) > 0);
      const served = await backend.event('served');
      t.is(served['packets'], packets);
      if (how.kicks) t.true(Number(served['kicks']) > 0, 'kicks are interrupts');
      t.log(`backend: ${JSON.stringify(served)}, calls seen: ${calls}`);
    }
    await backend.signal('KILL');
    backend = await GuestProgram.backend(vm, '/tmp/vhost.sock');
    await backend.event('connected');
    await visitDevice(t, guest, 'after the backend was killed', packets);
    t.is(await bridge.stop(), 0);
    await backend.signal('KILL');
  } catch (error) {
    t.log(await bridge.log(), await backend.log(), device.log);
    throw error;
  }
}

vmTest('vvu bridge works through VFIO behind a vIOMMU', async (t) => {
  t.timeout(180_000);
  const guest = await bootNodeGuest(t, kit!, folder.path, { layout: 'split', iommu: true });
  await live(t, guest, { args: `--device ${guest.pci.bdf} --bind vfio-pci`, kicks: true });
  t.is((await guest.pci.describe()).driver, '-', 'the function was given back');
});

vmTest('vvu bridge works through sysfs', async (t) => {
  t.timeout(180_000);
  const guest = await bootNodeGuest(t, kit!, folder.path, { layout: 'rfc', iommu: false });
  const args = `--device uuid:${guest.uuid} --bind uio_pci_generic`;
  await live(t, guest, { args, kicks: false });
});

vmTest('vvu bridge works on INTx through UIO', async (t) => {
  t.timeout(180_000);
  const guest = await bootNodeGuest(t, kit!, folder.path, { layout: 'split', iommu: false });
  const args = `--device ${guest.pci.bdf} --bind uio_pci_generic --intx`;
  await live(t, guest, { args, kicks: true, packets: 500 });
});

vmTest(
  'a function is taken over from a driver of the kernel, when asked, and given back',
  async (t) => {
    t.timeout(120_000);
    const guest = await bootNodeGuest(t, kit!, folder.path, { layout: 'split', iommu: false });
    const { vm, pci } = guest;
    // What Linux does with the RFC's id by itself.
    await vm.shell('modprobe virtio_pci');
    await pci.bind('virtio-pci');
    const refused = await GuestProgram.start(vm, 'bridge', `${PROGRAM} --device ${pci.bdf}`);
    t.is(await refused.ended(), 2);
    t.regex(
      await refused.log(),
      /^vvu: .*is held by the driver virtio-pci: run again with --bind uio_pci_generic/m,
    );
    await live(t, guest, { args: `--device ${pci.bdf} --bind uio_pci_generic`, kicks: false });
    t.is((await pci.describe()).driver, 'virtio-pci');
  },
);
