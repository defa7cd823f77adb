import test, { type ExecutionContext } from 'ava';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LAYOUTS, type Layout } from '../../src/hosts/layout.js';
import { available, declareTests } from '../support/declare-tests.js';
import { temporaryFolder } from '../support/temporary.js';
import { vmKit } from '../support/vm-kit.js';
import {
  CAP_DOORBELL,
  CAP_NOTIFICATION,
  CAP_SHARED_MEMORY,
  deviceId,
  openDevice,
  readStatus,
  VECTORS,
} from './device-guest.js';
import { DeviceProcess } from './device-process.js';
import { visit } from './device-visit.js';
import { GuestBuffer } from './guest-memory.js';
import { MemoryVectors } from './guest-msix.js';
import { RESOURCE_64BIT, RESOURCE_MEMORY, RESOURCE_PREFETCH } from './guest-pci.js';
import type { GuestPci } from './guest-pci.js';
import { DRIVER_OK, VIRTIO_F_VERSION_1, type GuestVirtio } from './guest-virtio.js';
import { capabilities, CAPABILITY_PCIE, msix } from './pci-config.js';
import { pattern } from './pattern.js';
import { bytes, vfioUserArguments } from './qemu-arguments.js';
import { Vm } from './qemu.js';

// An unpatched QEMU's guest looks at the device that `vvu device` serves, in each layout: first
// without an IOMMU, then, in a second VM on the same process, through VFIO behind a vIOMMU.

const { value: kit, reason } = await available(vmKit);
const vmTest = declareTests(reason);

const folder = await temporaryFolder('device-test', '/dev/shm');
test.after.always(() => folder.remove());

/** The preset file's part of the window, and all of it: the rest is for trapped regions. */
const PRESET_SIZE = bytes('16M');
const WINDOW_SIZE = bytes('32M');
const QUEUES = 256;
const UUID = '6a1b2c3d-0011-2233-4455-66778899aabb';
const CAP_PCI_CFG = 5;

/** The device at hand, and its window's preset file. */
interface Setup {
  readonly process: DeviceProcess;
  readonly layout: Layout;
  readonly path: string;
}

/** Where each layout puts things; what the rest may be is up to the device. */
const PLACES = {
  split: { doorbells: { bar: 2, offset: 0 }, window: { bar: 4, offset: 0 } },
  // The 2018 driver hard-codes these: doorbells of 2 bytes each, one per queue and the log's.
  rfc: { doorbells: { bar: 2, offset: 0 }, window: { bar: 2, offset: 4096 } },
  // Registers of the notification structure, behind those of rxq and txq.
  draft: { doorbells: { bar: 0, offset: 0x3008 }, window: { bar: 4, offset: 0 } },
} as const;

async function checkIdentity(t: ExecutionContext, pci: GuestPci, layout: Layout): Promise<void> {
  const description = await pci.describe();
  t.is(description.id, deviceId(layout));
  t.is(description.driver, '-');
  const config = await pci.config();
  t.is(config.length, 4096, 'a PCI Express function has 4096 bytes of configuration space');
  const express = capabilities(config).find(({ id }) => id === CAPABILITY_PCIE);
  t.truthy(express, 'PCI Express capability');
  const FLR = 1 << 28;
  t.not(config.readUInt32LE(express!.offset + 4) & FLR, 0, 'function level reset');
  t.true(msix(config).vectors >= VECTORS);
  // Reads of each width, at each alignment, agree with the whole.
  for (const width of [1, 2, 4] as const) {
    for (let offset = 0; offset < 64; offset += width) {
      t.is(await pci.configRead(offset, width), config.readUIntLE(offset, width));
    }
  }
}

async function checkBars(t: ExecutionContext, pci: GuestPci, layout: Layout): Promise<void> {
  const resources = await pci.resources();
  const windowBar = PLACES[layout].window.bar;
  for (const { bar, start, size, flags } of resources) {
    t.not(flags & RESOURCE_MEMORY, 0, `BAR ${bar} is memory`);
    t.true(start !== 0n, `BAR ${bar} has an address`);
    t.is(size & (size - 1n), 0n, `BAR ${bar} has a power of two as its size`);
    t.is(start % size, 0n, `BAR ${bar} is aligned to its size`);
    if (bar !== windowBar) continue;
    t.not(flags & RESOURCE_64BIT, 0);
    t.not(flags & RESOURCE_PREFETCH, 0);
    t.true(size >= BigInt(WINDOW_SIZE));
    // The first touch of a large BAR is costly in a guest: no more than was asked for.
    t.true(size <= BigInt(2 * WINDOW_SIZE));
  }
}

async function checkStructures(
  t: ExecutionContext,
  device: GuestVirtio,
  layout: Layout,
): Promise<void> {
  const resources = await device.pci.resources();
  const types = device.structures.map(({ type }) => type);
  for (let type = 1; type <= CAP_SHARED_MEMORY; type++)
    t.true(types.includes(type), `type ${type}`);
  // The draft's doorbells are notifications.
  const inside = layout === 'draft' ? CAP_DOORBELL : undefined;
  const placed = device.structures.filter(({ type }) => type !== CAP_PCI_CFG && type !== inside);
  for (const one of placed) {
    const bar = resources.find((each) => each.bar === one.bar);
    t.true(bar !== undefined && BigInt(one.offset + one.length) <= bar.size, `type ${one.type}`);
    for (const other of placed) {
      const apart =
        one === other ||
        one.bar !== other.bar ||
        one.offset + one.length <= other.offset ||
        other.offset + other.length <= one.offset;
      t.true(apart, `structures ${one.type} and ${other.type} overlap`);
    }
  }
  const { doorbells, window } = PLACES[layout];
  const doorbell = device.structure(CAP_DOORBELL);
  t.like(doorbell, doorbells);
  const stride = doorbell.bytes.readUInt32LE(16);
  t.true(doorbell.length >= stride * (QUEUES + 1) - stride + 2);
  if (layout === 'rfc') t.is(stride, 2);
  t.true(device.structure(CAP_NOTIFICATION).length >= 4);
  const shared = device.structure(CAP_SHARED_MEMORY);
  t.like(shared, window);
  t.is(shared.length, WINDOW_SIZE);
}

/** Stores of the guest are in the file, what is written into the file is seen by the guest. */
async function checkWindow(
  t: ExecutionContext,
  pci: GuestPci,
  layout: Layout,
  path: string,
): Promise<void> {
  const { bar, offset } = PLACES[layout].window;
  const length = 65536;
  const file = await open(path, 'r+');
  try {
    for (const at of [0, 4096, PRESET_SIZE - length]) {
      await pci.fill(bar, offset + at, length, at + 1);
      const seen = Buffer.alloc(length);
      await file.read(seen, 0, length, at);
      t.true(seen.equals(pattern(length, at + 1)), `stores at ${at}`);
      await file.write(pattern(length, at + 7), 0, length, at);
      t.is(await pci.check(bar, offset + at, length, at + 7), 'wrong=0 first=0x0');
    }
    for (const width of [1, 2, 4, 8] as const) {
      await file.write(Buffer.alloc(16), 0, 16, 64);
      await pci.write(bar, offset + 64 + width, width, 0x8877665544332211n);
      const seen = Buffer.alloc(16);
      await file.read(seen, 0, 16, 64);
      t.is(seen.readBigUInt64LE(width), BigInt.asUintN(8 * width, 0x8877665544332211n));
    }
  } finally {
    await file.close();
  }
}

async function checkDeviceConfig(t: ExecutionContext, device: GuestVirtio): Promise<void> {
  const expected = Buffer.alloc(24);
  expected.writeUInt32LE(QUEUES, 4);
  Buffer.from(UUID.replaceAll('-', ''), 'hex').copy(expected, 8);
  // The 2019 driver reads it byte by byte.
  for (const width of [1, 2, 4] as const) {
    t.deepEqual(await device.deviceConfig(0, expected.length, width), expected);
  }
}

/** Status 0, and the kernel's function level reset, both bring the device back to its start. */
async function checkReset(t: ExecutionContext, device: GuestVirtio): Promise<void> {
  const resets = [() => device.reset(), () => device.pci.reset()];
  for (const reset of resets) {
    await device.negotiate(VIRTIO_F_VERSION_1);
    t.is(await device.setConfigVector(1), 1);
    await device.driverOk();
    t.not((await device.get('deviceStatus')) & DRIVER_OK, 0);
    await reset();
    t.is(await device.get('deviceStatus'), 0);
    t.is(await device.get('configMsixVector'), 0xffff);
    t.is(await readStatus(device), 0);
  }
}

/** A frontend's visit, in a guest without an IOMMU. */
async function visitByMemory(
  t: ExecutionContext,
  { process, path }: Setup,
  device: GuestVirtio,
): Promise<void> {
  const memory = await GuestBuffer.huge(device.pci.vm);
  const vectors = await MemoryVectors.enable(device.pci, memory, { offset: 8192, count: VECTORS });
  const driver = {
    memory,
    address: (offset: number) => memory.address + BigInt(offset),
    pages: [0, 4096],
    interrupts: vectors,
  } as const;
  await visit(t, { process, device, driver, window: device.pci, preset: path });
  await vectors.disable();
  await memory.free();
}

const MAPS = 600;
const FIRST_IOVA = 0x1_0000_0000n;

/** The same behind a vIOMMU: the queues are in two of many small mappings of one RAM file. */
async function visitByVfio(
  t: ExecutionContext,
  { process, layout, path }: Setup,
  device: GuestVirtio,
): Promise<void> {
  const { pci } = device;
  await pci.enableInterrupts(VECTORS);
  const descriptors = process.descriptors;
  const mappings = process.mappings;
  const chunks = { count: MAPS, stride: 8192 };
  const memory = await GuestBuffer.mapped(pci.vm, FIRST_IOVA, chunks);
  // Each mapping came with a descriptor of its own for the same file.
  t.true(process.descriptors <= descriptors + 2, 'no descriptor is kept per mapping');
  t.true(process.mappings <= mappings + 2, 'nothing is mapped per mapping');
  const driver = {
    memory,
    address: (offset: number) => FIRST_IOVA + BigInt(2 * offset),
    pages: [4096 * 100, 4096 * (MAPS - 1)],
    interrupts: {
      fired: async (vector: number, timeout: number) => (await pci.interrupts(vector, timeout)) > 0,
    },
  } as const;
  // In the rfc layout VFIO has claimed the window's BAR along with the doorbells.
  const window = layout === 'rfc' ? pci : pci.sysfs;
  await checkWindow(t, window, layout, path);
  await visit(t, { process, device, driver, window, preset: path });
  await memory.free();
  await pci.disableInterrupts();
}

async function plainGuest(t: ExecutionContext, setup: Setup): Promise<void> {
  const { process, layout, path } = setup;
  const vm = await Vm.start(kit!, { args: vfioUserArguments(process.vfioUser) });
  t.teardown(() => vm.close());
  const device = await openDevice(vm, layout);
  await checkIdentity(t, device.pci, layout);
  await checkBars(t, device.pci, layout);
  await checkStructures(t, device, layout);
  await checkDeviceConfig(t, device);
  await checkWindow(t, device.pci, layout, path);
  await checkReset(t, device);
  await visitByMemory(t, setup, device);
  await device.negotiate(VIRTIO_F_VERSION_1);
  await device.driverOk();
  await vm.reboot();
  const again = await openDevice(vm, layout);
  t.is(await again.get('deviceStatus'), 0);
  await checkWindow(t, again.pci, layout, path);
  await visitByMemory(t, setup, again);
  t.is(await vm.powerOff(), 'status 0');
}

async function guestWithIommu(t: ExecutionContext, setup: Setup): Promise<void> {
  const { process, layout } = setup;
  const vm = await Vm.start(kit!, { iommu: true, args: vfioUserArguments(process.vfioUser) });
  t.teardown(() => vm.close());
  const found = await openDevice(vm, layout);
  await checkIdentity(t, found.pci, layout);
  for (let round = 0; round < 3; round++) {
    await found.pci.openVfio();
    const device = await openDevice(vm, layout);
    await visitByVfio(t, setup, device);
    await vm.run('vfio-reset');
    t.is(await device.get('deviceStatus'), 0);
    await found.pci.closeVfio();
  }
  // It goes while hundreds of mappings stand and the driver is up.
  await found.pci.openVfio();
  await GuestBuffer.mapped(vm, FIRST_IOVA, { count: MAPS, stride: 8192 });
  await found.negotiate(VIRTIO_F_VERSION_1);
  await found.driverOk();
  await vm.kill();
}

/** Waits until the process has no more descriptors open than that. */
async function settles(process: DeviceProcess, descriptors: number): Promise<boolean> {
  for (let tries = 0; tries < 100; tries++) {
    if (process.descriptors <= descriptors) return true;
    await sleep(50);
  }
  return false;
}

for (const layout of LAYOUTS) {
  vmTest(`layout ${layout}: a guest sees the device, and the next one does`, async (t) => {
    t.timeout(180_000);
    const path = join(folder.path, `window-${layout}`);
    const process = await DeviceProcess.start({
      layout,
      window: `path=${path},size=16M,trapped=16M`,
      uuid: UUID,
    });
    t.teardown(async () => {
      if (!t.passed) t.log(process.log);
      await process.close();
    });
    const setup = { process, layout, path };
    const descriptors = process.descriptors;
    await plainGuest(t, setup);
    t.true(await settles(process, descriptors), 'descriptors after a power-off');
    await guestWithIommu(t, setup);
    t.true(await settles(process, descriptors), 'descriptors after a killed VM');
    const vm = await Vm.start(kit!, { args: vfioUserArguments(process.vfioUser) });
    t.teardown(() => vm.close());
    await visitByMemory(t, setup, await openDevice(vm, layout));
    t.is(await vm.powerOff(), 'status 0');
    t.is(await process.stop(), 'status 0');
    t.false(process.hasSockets);
  });
}
