/**
 * A hypervisor's side of vfio-user: attaches any device, prints what it is, and where it is ours also
 * brings it up, as the guest of a hypervisor would, until a frontend has come and gone:
 *
 *     node dist/examples/vfio-user-attach.js /run/vvu/appliance.sock
 */
import {
  VFIO_PCI_CONFIG_REGION_INDEX as CONFIG,
  VFIO_PCI_MSIX_IRQ_INDEX as MSIX,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  VfioUserClient,
} from 'vfio-ts-bindings';
import { NativeTransport, native } from 'virtio-vhost-user';

const REGIONS = ['BAR 0', 'BAR 1', 'BAR 2', 'BAR 3', 'BAR 4', 'BAR 5', 'ROM', 'config', 'VGA'];
const IRQS = ['INTx', 'MSI', 'MSI-X', 'error', 'request'];
const RAM_BYTES = 2 << 20;
const RAM_ADDRESS = 0x10_0000;
const VIRTIO_VHOST_USER = 0x1058_1af4;
const hex = (value: number, digits = 1) => value.toString(16).padStart(digits, '0');

async function printRegions(client: VfioUserClient, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const { size, flags, areas, fd } = await client.regionInfo(index);
    // The file behind the region is ours now; a hypervisor would map it into its guest.
    if (fd !== undefined) native.closeFd(fd);
    if (size === 0) continue;
    const can = [
      (flags & VFIO_REGION_INFO_FLAG_READ) !== 0 ? ['read'] : [],
      (flags & VFIO_REGION_INFO_FLAG_WRITE) !== 0 ? ['write'] : [],
      (flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0 ? ['mmap'] : [],
      (areas ?? []).map((area) => `[0x${hex(area.offset)}, +0x${hex(area.size)})`),
    ];
    const what = `region ${index} (${REGIONS[index] ?? 'other'}): 0x${hex(size)} bytes`;
    console.log(`${what}, ${can.flat().join(' ')}`);
  }
}

/** The standard header, and the list of capabilities. */
async function printConfig(client: VfioUserClient): Promise<void> {
  const bytes = Buffer.from(await client.regionRead(CONFIG, 0, 256));
  const id = (at: number) => hex(bytes.readUInt16LE(at), 4);
  const classCode = hex(bytes.readUIntLE(9, 3), 6);
  console.log(`config: ${id(0)}:${id(2)} class ${classCode} subsystem ${id(0x2c)}:${id(0x2e)}`);
  const seen = new Set<number>();
  for (let at = bytes.readUInt8(0x34) & 0xfc; at !== 0 && !seen.has(at);) {
    seen.add(at);
    const kind = bytes.readUInt8(at);
    const virtio = kind === 0x09 ? `, virtio structure ${bytes.readUInt8(at + 3)}` : '';
    console.log(`  capability 0x${hex(kind, 2)} at 0x${hex(at)}${virtio}`);
    at = bytes.readUInt8(at + 1) & 0xfc;
  }
}

/** What firmware and a driver without queues do; resolves when a frontend was there. */
async function drive(client: VfioUserClient): Promise<void> {
  const ram = native.createMemfd('guest-ram', RAM_BYTES);
  await client.dmaMap({ address: RAM_ADDRESS, size: RAM_BYTES, fd: ram });
  native.closeFd(ram); // the device has its own
  const interrupt = native.createEventFd(); // a KVM irqfd, in a hypervisor with KVM
  await client.setIrqEventFds(MSIX, 0, [interrupt]);
  await client.reset();
  const store = async (offset: number, width: number, value: number): Promise<void> => {
    const bytes = Buffer.alloc(width);
    bytes.writeUIntLE(value, 0, width);
    await client.regionWrite(0, offset, bytes);
  };
  const [featureSelect, features, configVector, status, linkStatus] = [8, 0xc, 0x10, 0x14, 0x2000];
  for (const bits of [0x01, 0x03]) await store(status, 1, bits);
  await store(featureSelect, 4, 1);
  await store(features, 4, 1); // VERSION_1
  await store(status, 1, 0x0b);
  await store(configVector, 2, 0);
  await store(status, 1, 0x0f);
  await store(linkStatus, 4, 1); // the backend is up
  console.log('up, waiting for a frontend');
  await new Promise<void>((resolve, reject) => {
    const watch = native.watchEventFd(interrupt, () => {
      client.regionRead(0, linkStatus, 4).then((bytes) => {
        const link = Buffer.from(bytes).readUInt32LE();
        console.log(
          `interrupt: ${link === 3 ? 'a frontend is connected' : 'the frontend is gone'}`,
        );
        if (link === 3) return;
        watch.close();
        resolve();
      }, reject);
    });
  });
  native.closeFd(interrupt);
}

const [path] = process.argv.slice(2);
if (path === undefined) throw new Error('usage: vfio-user-attach SOCKET');
const client = new VfioUserClient(new NativeTransport(native, native.connect(path)));
const { maxMsgFds, maxDataXferSize, maxDmaMaps } = await client.connect();
console.log(`server: ${maxMsgFds} fds, ${maxDataXferSize} bytes, ${maxDmaMaps} DMA maps at most`);
const { numRegions, numIrqs } = await client.deviceInfo();
await printRegions(client, numRegions);
await printConfig(client);
for (let index = 0; index < numIrqs; index++) {
  const { count } = await client.irqInfo(index);
  if (count > 0) console.log(`irq ${index} (${IRQS[index] ?? 'other'}): ${count}`);
}
const id = Buffer.from(await client.regionRead(CONFIG, 0, 4)).readUInt32LE();
if (id === VIRTIO_VHOST_USER) await drive(client);
client.close();
