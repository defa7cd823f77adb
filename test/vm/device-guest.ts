import type { ExecutionContext } from 'ava';
import { BareFrontend, GET_FEATURES, reply, request } from './bare-frontend.js';
import type { DeviceProcess } from './device-process.js';
import type { GuestBuffer } from './guest-memory.js';
import { GuestPci } from './guest-pci.js';
import { GuestQueue } from './guest-queue.js';
import {
  CAP_DEVICE,
  GuestVirtio,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
} from './guest-virtio.js';
import type { Vm } from './qemu.js';

/** The RFC's id: vendor of virtio, device 0x1040 + 24. */
export const DEVICE_ID = '1af4:1058';

/** Device configuration: le32 status, le32 max_vhost_queues, u8 uuid[16]. */
const SLAVE_UP = 1;
const MASTER_UP = 2;

const TIMEOUT = 10_000;

/** How a guest learns of interrupts: through VFIO, or by MSI-X into its memory. */
export interface Interrupts {
  fired(vector: number, timeout: number): Promise<boolean>;
}

/** What a driver brings: the memory for its queues and the interrupts. */
export interface DriverResources {
  readonly memory: GuestBuffer;
  /** The address, for the device, of the page at this offset of `memory`. */
  readonly address: (offset: number) => bigint;
  /** Offsets of the pages for rxq and txq. */
  readonly pages: readonly [number, number];
  readonly interrupts: Interrupts;
}

/** Vectors as the drivers in the wild use them, but one per queue, to tell the queues apart. */
const CONFIG_VECTOR = 0;
const RX_VECTOR = 1;
const TX_VECTOR = 2;
export const VECTORS = 3;

/** Finds the device in the guest. */
export async function openDevice(vm: Vm): Promise<GuestVirtio> {
  const pci = await GuestPci.find(vm, DEVICE_ID);
  await pci.enable();
  return GuestVirtio.open(pci);
}

export async function readStatus(device: GuestVirtio): Promise<number> {
  return (await device.deviceConfig(0, 4, 4)).readUInt32LE();
}

async function writeStatus(device: GuestVirtio, status: number): Promise<void> {
  const { bar, offset } = device.structure(CAP_DEVICE);
  await device.pci.write(bar, offset, 4, status);
}

/**
 * Drives the device through a frontend's visit: a driver comes up, a frontend connects, a
 * message goes each way, the frontend leaves. Every step is seen by its interrupt. Then the
 * device is reset.
 */
export async function tunnelOnce(
  t: ExecutionContext,
  process: DeviceProcess,
  device: GuestVirtio,
  driver: DriverResources,
): Promise<void> {
  const { interrupts } = driver;
  const [rx, tx] = await bringUp(t, device, driver);
  const frontend = await BareFrontend.connect(process.vhostUser);
  try {
    t.true(await interrupts.fired(CONFIG_VECTOR, TIMEOUT), 'interrupt for the frontend coming');
    t.is(await readStatus(device), SLAVE_UP | MASTER_UP);
    // The 2019 driver reads ISR under MSI-X, and wants bit 1 for a configuration change.
    t.is((await device.isr()) & 2, 2);

    frontend.send(request(GET_FEATURES));
    t.deepEqual(await rx.used(TIMEOUT), request(GET_FEATURES));
    t.true(await interrupts.fired(RX_VECTOR, TIMEOUT), 'interrupt of rxq');

    const features = Buffer.alloc(8);
    features.writeBigUInt64LE(VIRTIO_F_VERSION_1 | 1n);
    const answer = reply(GET_FEATURES, features);
    await tx.send(answer);
    t.deepEqual(await frontend.receive(answer.length, TIMEOUT), answer);
    t.truthy(await tx.used(TIMEOUT));
    t.true(await interrupts.fired(TX_VECTOR, TIMEOUT), 'interrupt of txq');
  } finally {
    await frontend.close();
  }
  t.true(await interrupts.fired(CONFIG_VECTOR, TIMEOUT), 'interrupt for the frontend leaving');
  t.is(await readStatus(device), 0);
  await device.reset();
}

async function bringUp(
  t: ExecutionContext,
  device: GuestVirtio,
  { memory, address, pages }: DriverResources,
): Promise<[GuestQueue, GuestQueue]> {
  const offered = await device.features();
  t.true((offered & VIRTIO_F_VERSION_1) !== 0n);
  await device.negotiate(VIRTIO_F_VERSION_1 | (offered & VIRTIO_F_ACCESS_PLATFORM));
  t.is(await device.get('numQueues'), 2);
  t.is(await device.setConfigVector(CONFIG_VECTOR), CONFIG_VECTOR);
  const queue = (index: 0 | 1, vector: number): Promise<GuestQueue> => {
    const offset = pages[index];
    const place = { offset, address: address(offset), vector };
    return GuestQueue.create(device, index, memory, place);
  };
  const rx = await queue(0, RX_VECTOR);
  const tx = await queue(1, TX_VECTOR);
  await device.driverOk();
  for (let buffers = 0; buffers < 4; buffers++) await rx.offer();
  await writeStatus(device, SLAVE_UP);
  t.is(await readStatus(device), SLAVE_UP);
  return [rx, tx];
}
