import test, { type ExecutionContext } from 'ava';
import { available, declareTests } from '../support/declare-tests.js';
import { temporaryFolder } from '../support/temporary.js';
import { nodeVmKit } from '../support/vm-kit.js';
import { GuestProgram } from './guest-program.js';
import { bootNodeGuest, visitDevice, type NodeGuest } from './node-guest.js';

// The driver itself, in Node.js inside an unpatched QEMU's guest: it echoes packets of a frontend on
// the host through loads and stores of the window BAR.

const { value: kit, reason } = await available(nodeVmKit);
const vmTest = declareTests(reason);

const folder = await temporaryFolder('guest-driver', '/dev/shm');
test.after.always(() => folder.remove());

const PROGRAM = 'dist/test/vm/guest-node/echo.js';
const PACKETS = 20_000;

interface Run {
  /** Of echo.js, without the program. */
  readonly args: string;
  /** The class of the access object that is expected. */
  readonly access: string;
  readonly interrupts?: boolean;
  /** Default 20,000. */
  readonly packets?: number;
}

/** Brings the program up and through its life: two frontends, a reset, a third, the end. */
async function live(t: ExecutionContext, guest: NodeGuest, run: Run): Promise<void> {
  const { vm } = guest;
  const { args, access, interrupts = false, packets = PACKETS } = run;
  const started = performance.now();
  const program = await GuestProgram.start(
    vm,
    'echo',
    `${PROGRAM} ${args}${interrupts ? ' --interrupts' : ''}`,
  );
  try {
    const up = await program.event('up');
    t.log(`up after ${Math.round(performance.now() - started)} ms: ${JSON.stringify(up)}`);
    t.like(up, { access, uuid: guest.uuid.replaceAll('-', ''), windowFile: true });
    await visitDevice(t, guest, `${args}, first frontend`, packets);
    await program.event('disconnected');
    await visitDevice(t, guest, 'after a reconnection', packets);
    await program.signal('USR2');
    const report = await program.event('report');
    t.is(report['packets'], 2 * packets);
    t.is(report['drops'], 0);
    if (interrupts) t.true(Number(report['interrupts']) > 0 && Number(report['kicks']) > 0);
    t.log(`in the guest: ${JSON.stringify(report)}`);
    await program.signal('USR1');
    await program.event('reset');
    await visitDevice(t, guest, 'after a reset', packets);
    t.is(await program.stop(), 0);
  } catch (error) {
    t.log(await program.log());
    throw error;
  }
}

for (const layout of ['split', 'rfc'] as const) {
  vmTest(`layout ${layout}: the driver works through VFIO behind a vIOMMU`, async (t) => {
    t.timeout(180_000);
    const guest = await bootNodeGuest(t, kit!, folder.path, { layout, iommu: true });
    const { pci } = guest;
    const access = 'VfioPciAccess';
    await live(t, guest, { args: `${pci.bdf} --bind vfio-pci`, access, interrupts: true });
    t.is((await pci.describe()).driver, '-', 'the function was given back');
    await pci.bind('vfio-pci');
    await live(t, guest, { args: `uuid:${guest.uuid}`, access });
  });

  vmTest(`layout ${layout}: the driver works through sysfs`, async (t) => {
    t.timeout(180_000);
    const guest = await bootNodeGuest(t, kit!, folder.path, { layout, iommu: false });
    const access = 'SysfsPciAccess';
    await live(t, guest, { args: guest.pci.bdf, access });
    await live(t, guest, { args: `uuid:${guest.uuid} --bind uio_pci_generic`, access });
  });
}

vmTest('the driver works on INTx through UIO, without polling', async (t) => {
  t.timeout(180_000);
  const guest = await bootNodeGuest(t, kit!, folder.path, { layout: 'split', iommu: false });
  const access = 'SysfsPciAccess';
  const args = `${guest.pci.bdf} --bind uio_pci_generic --intx`;
  await live(t, guest, { args, access, interrupts: true, packets: 500 });
});
