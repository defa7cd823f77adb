import { GuestBuffer } from './guest-memory.js';
import { GuestPci } from './guest-pci.js';
import { GuestQueue } from './guest-queue.js';
import { GuestVirtio, NO_VECTOR, VIRTIO_F_VERSION_1 } from './guest-virtio.js';
import type { Vm } from './qemu.js';

/** virtio-net-pci with `disable-legacy`. */
const NET_ID = '1af4:1041';
/** struct virtio_net_hdr (virtio 1.3 §5.1.6) and an Ethernet header: broadcast, local experiments. */
const NET_HEADER = Buffer.alloc(12);
const ETHERNET_HEADER = Buffer.from('ffffffffffff' + '025400000001' + '88b5', 'hex');
/** Rings and receive buffers in pages of their own; QEMU takes a used ring for dirty in any case. */
const RX = { index: 0, offset: 0, data: 8192 };
const TX = { index: 1, offset: 4096, data: 8192 };
export const RX_BUFFERS = 8;

/**
 * The network device of a guest, driven by hand: its queues are in memory that nobody else in the
 * guest touches. The receive buffers are all offered at the start, and only the device ever writes
 * the page that they are in.
 */
export class RawNet {
  private constructor(
    private readonly memory: GuestBuffer,
    private readonly rx: GuestQueue,
    private readonly tx: GuestQueue,
  ) {}

  static async start(vm: Vm): Promise<RawNet> {
    const pci = await GuestPci.find(vm, NET_ID);
    await pci.enable();
    const device = await GuestVirtio.open(pci);
    await device.negotiate(VIRTIO_F_VERSION_1);
    const memory = await GuestBuffer.huge(vm);
    const create = ({ index, offset, data }: typeof RX): Promise<GuestQueue> => {
      const address = memory.address + BigInt(offset);
      const place = { offset, address, vector: NO_VECTOR, data };
      return GuestQueue.create(device, index, memory, place);
    };
    const rx = await create(RX);
    const tx = await create(TX);
    await device.driverOk();
    for (let count = 0; count < RX_BUFFERS; count++) await rx.offer();
    return new RawNet(memory, rx, tx);
  }

  /**
   * The same driver in the VM that its own was migrated to, as it was before it received the last
   * `again` packets.
   */
  async on(vm: Vm, again: number): Promise<RawNet> {
    const device = await GuestVirtio.open(await GuestPci.find(vm, NET_ID));
    const memory = this.memory.on(vm);
    const rx = this.rx.on(device, memory, again);
    return new RawNet(memory, rx, this.tx.on(device, memory, 0));
  }

  async send(text: string): Promise<void> {
    await this.tx.send(Buffer.concat([NET_HEADER, ETHERNET_HEADER, Buffer.from(text, 'latin1')]));
  }

  /** The next packet that came, or undefined when none does. */
  async receive(): Promise<string | undefined> {
    const bytes = await this.rx.used(20_000);
    const headers = NET_HEADER.length + ETHERNET_HEADER.length;
    return bytes?.subarray(headers).toString('latin1');
  }
}
