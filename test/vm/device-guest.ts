import type { ExecutionContext } from 'ava';
import type { Layout } from '../../src/hosts/layout.js';
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

/** Vendor of virtio; device 0x1040 + 24, the RFC's, or 0x1040 + 32, the drafts'. */
export function deviceId(layout: Layout): string {
  return layout === 'draft' ? '1af4:1060' : '1af4:1058';
}

/** Capability types of virtio-vhost-user. */
export const CAP_DOORBELL = 6;
export const CAP_NOTIFICATION = 7;
export const CAP_SHARED_MEMORY = 8;

/** Bits of the status, the first field of the device configuration. */
export const SLAVE_UP = 1;
export const MASTER_UP = 2;

/** Vectors as the drivers in the wild use them, but each cause has one of its own. */
export const CONFIG_VECTOR = 0;
export const RX_VECTOR = 1;
export const TX_VECTOR = 2;
export const KICK_VECTOR = 3;
export const VECTORS = 4;

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

/** Finds the device in the guest. */
export async function openDevice(vm: Vm, layout: Layout): Promise<GuestVirtio> {
  const pci = await GuestPci.find(vm, deviceId(layout));
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

/** What a driver does until it is ready for a frontend: rxq and txq, buffers, SLAVE_UP. */
export async function bringUp(
  t: ExecutionContext,
  device: GuestVirtio,
  { memory, address, pages }: DriverResources,
): Promise<{ rx: GuestQueue; tx: GuestQueue }> {
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
  for (let buffers = 0; buffers < 6; buffers++) await rx.offer();
  await writeStatus(device, SLAVE_UP);
  t.is(await readStatus(device), SLAVE_UP);
  return { rx, tx };
}

/** Draft 5: the window is a virtio_pci_cap64, doorbells and kick vectors have queue indices. */
function isDraft(device: GuestVirtio): boolean {
  return device.structure(CAP_SHARED_MEMORY).bytes.length === 24;
}

/** Stores into a call doorbell the way the drivers do: the queue's index, 16 bits. */
export async function ringDoorbell(device: GuestVirtio, vring: number): Promise<void> {
  if (isDraft(device)) return device.notify(2 * vring + 2);
  const { bar, offset, bytes } = device.structure(CAP_DOORBELL);
  const stride = bytes.readUInt32LE(16);
  await device.pci.write(bar, offset + vring * stride, 2, vring);
}

/** Assigns a vector to a vring's kicks; resolves with what reads back. */
export async function setKickVector(
  device: GuestVirtio,
  vring: number,
  vector: number,
): Promise<number> {
  if (isDraft(device)) {
    await device.set('queueSelect', 2 * vring + 2);
    await device.set('queueMsixVector', vector);
    return device.get('queueMsixVector');
  }
  const { bar, offset } = device.structure(CAP_NOTIFICATION);
  await device.pci.write(bar, offset, 2, vring);
  await device.pci.write(bar, offset + 2, 2, vector);
  return device.pci.read(bar, offset + 2, 2);
}
