import test from 'ava';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { available, declareTests } from '../support/declare-tests.js';
import { temporaryFolder } from '../support/temporary.js';
import { vmKit } from '../support/vm-kit.js';
import { GuestBuffer } from './guest-memory.js';
import { MemoryVectors } from './guest-msix.js';
import { GuestPci, listFunctions } from './guest-pci.js';
import { GuestQueue } from './guest-queue.js';
import { GuestVirtio, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1 } from './guest-virtio.js';
import { CAPABILITY_MSIX, capabilities, msix, virtioCapabilities } from './pci-config.js';
import { pattern } from './pattern.js';
import { deviceArguments } from './qemu-arguments.js';
import { Vm } from './qemu.js';

// The harness itself, on devices that QEMU brings: what is shown to work here cannot be the
// reason when a test of our own device fails.

const { value: kit, reason } = await available(vmKit);
const vmTest = declareTests(reason);

const RNG = '1af4:1044';
const WINDOW = '1af4:1110';
const WINDOW_SIZE = 16 * 2 ** 20;

const folder = await temporaryFolder('harness', '/dev/shm');
test.after.always(() => folder.remove());

/** A BAR whose memory is a file of the host, and a virtio device with MSI-X. */
function stockDevices(file: string, iommu: boolean): string[] {
  return [
    '-object',
    `memory-backend-file,id=window,mem-path=${file},size=${WINDOW_SIZE},share=on`,
    ...deviceArguments('ivshmem-plain', { memdev: 'window' }),
    ...deviceArguments('virtio-rng-pci', { 'disable-legacy': 'on', iommu_platform: iommu }),
  ];
}

vmTest('a guest boots; its functions, BARs and memory answer; it restarts and ends', async (t) => {
  const file = join(folder.path, 'window');
  const vm = await Vm.start(kit!, { args: stockDevices(file, false) });
  t.teardown(() => vm.close());

  t.deepEqual(
    (await listFunctions(vm)).map(({ id }) => id).filter((id) => id === RNG || id === WINDOW),
    [WINDOW, RNG],
  );
  const window = await GuestPci.find(vm, WINDOW);
  await window.enable();
  t.is((await window.resources()).find(({ bar }) => bar === 2)?.size, BigInt(WINDOW_SIZE));

  await window.fill(2, 4096, 8192, 42);
  t.deepEqual((await readFile(file)).subarray(4096, 12288), pattern(8192, 42));
  const contents = Buffer.alloc(WINDOW_SIZE);
  pattern(8192, 43).copy(contents, 65536);
  await writeFile(file, contents, { flag: 'r+' });
  t.is(await window.check(2, 65536, 8192, 43), 'wrong=0 first=0x0');
  t.is(await window.check(2, 65536, 8192, 44), 'wrong=1024 first=0x0');
  for (const width of [1, 2, 4, 8] as const) {
    await window.write(2, 0x20, 8, 0);
    await window.write(2, 0x20, width, 0x8877665544332211n);
    t.is(await window.read64(2, 0x20), BigInt.asUintN(8 * width, 0x8877665544332211n));
  }
  await t.throwsAsync(window.read(2, WINDOW_SIZE, 4), { message: /outside of the BAR/ });

  await vm.reboot();
  await vm.reset();
  t.is(await vm.powerOff(), 'status 0');
});

vmTest('a virtio device works without an IOMMU: huge page, MSI-X into memory', async (t) => {
  const vm = await Vm.start(kit!, { args: stockDevices(join(folder.path, 'rng'), false) });
  t.teardown(() => vm.close());
  const pci = await GuestPci.find(vm, RNG);
  await pci.enable();
  const config = await pci.config();
  t.true(capabilities(config).some(({ id }) => id === CAPABILITY_MSIX));
  t.deepEqual(
    virtioCapabilities(config)
      .map(({ type }) => type)
      .sort(),
    [1, 2, 3, 4, 5],
  );
  t.is(msix(config).vectors, 2);

  const memory = await GuestBuffer.huge(vm);
  const vectors = await MemoryVectors.enable(pci, memory, { offset: 8192, count: 2 });
  const device = await GuestVirtio.open(pci);
  await device.negotiate(VIRTIO_F_VERSION_1);
  t.is(await device.setConfigVector(0), 0);
  const place = { offset: 0, address: memory.address, vector: 1 };
  const queue = await GuestQueue.create(device, 0, memory, place);
  await device.driverOk();
  for (let round = 0; round < 20; round++) {
    await queue.offer(64);
    t.is((await queue.used(5_000))?.length, 64);
    t.true(await vectors.fired(1, 5_000));
  }
  t.false(await vectors.fired(0, 50));
  await vectors.disable();
  await queue.offer(64);
  t.is((await queue.used(5_000))?.length, 64);
  t.false(await vectors.fired(1, 50));
  await device.reset();
});

vmTest('a virtio device works through VFIO behind a vIOMMU, among many mappings', async (t) => {
  const vm = await Vm.start(kit!, {
    iommu: true,
    args: stockDevices(join(folder.path, 'vfio'), true),
  });
  t.teardown(() => vm.close());
  const pci = await GuestPci.find(vm, RNG);
  for (let round = 0; round < 2; round++) {
    await pci.openVfio();
    await pci.enable();
    await pci.enableInterrupts(2);
    const first = 0x1_0000_0000n;
    const memory = await GuestBuffer.mapped(vm, first, { count: 300, stride: 8192 });
    const device = await GuestVirtio.open(pci);
    await device.negotiate(VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM);
    const chunk = 299;
    const place = { offset: chunk * 4096, address: first + BigInt(chunk * 8192), vector: 1 };
    const queue = await GuestQueue.create(device, 0, memory, place);
    await device.driverOk();
    await queue.offer(64);
    t.is((await queue.used(5_000))?.length, 64);
    t.is(await pci.interrupts(1, 5_000), 1);
    t.is(await pci.interrupts(0, 50), 0);
    await device.reset();
    await memory.free();
    await pci.disableInterrupts();
    await pci.closeVfio();
  }
  await vm.kill();
  await t.throwsAsync(vm.run('help'), { message: /not running/ });
});

vmTest('failures are errors that say why, within their time', async (t) => {
  await t.throwsAsync(Vm.start(kit!, { args: ['-device', 'no-such-device'] }), {
    message: /QEMU ended: status 1[^]*no-such-device/,
  });
  const vm = await Vm.start(kit!);
  t.teardown(() => vm.close());
  await t.throwsAsync(vm.shell('sleep 2', 500), { message: /nothing within 500 ms/ });
  t.deepEqual(await vm.shell('echo there'), ['there']);
  await t.throwsAsync(vm.shell('exit 3'), { message: 'exit status 3' });
  await t.throwsAsync(vm.run('bar-read 0000:00:00.0 x 0 4'), { message: /not a number/ });
  await t.throwsAsync(vm.shell('echo c > /proc/sysrq-trigger'), { message: /panicked[^]*sysrq/ });
  const { pid } = vm;
  await vm.close();
  t.false(existsSync(`/proc/${pid}`));
});
