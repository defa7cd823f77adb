import { VfioUserClient, type VfioUserClientOptions } from 'vfio-ts-bindings';
import { native, type NativeMemory } from '../../src/native.js';
import { NativeTransport } from '../../src/native-transport.js';
import { MEMORY_BYTES, RawDriver } from './raw-driver.js';

export * from './raw-driver.js';

/** Regions of vfio-user: BARs are 0 to 5. */
export const CONFIG_REGION = 7;

/** A guest driven by hand behind a vfio-user client. */
export class RawGuest extends RawDriver {
  private closed = false;

  private constructor(
    readonly client: VfioUserClient,
    override readonly memory: NativeMemory,
    private readonly fd: number,
  ) {
    const registers = {
      read: (region: number, offset: number, width: number) => {
        const bytes = client.regionReadSync(region, offset, width);
        return Buffer.from(bytes).readUIntLE(0, width);
      },
      write: (region: number, offset: number, width: number, value: number) => {
        const bytes = Buffer.alloc(width);
        bytes.writeUIntLE(value, 0, width);
        client.regionWriteSync(region, offset, bytes);
      },
    };
    super(registers, memory, RawGuest.IOVA);
  }

  static readonly IOVA = 0x10_0000;

  static async attach(path: string, options: VfioUserClientOptions = {}): Promise<RawGuest> {
    const client = new VfioUserClient(new NativeTransport(native, native.connect(path)), options);
    await client.connect();
    const fd = native.createMemfd('raw-guest', MEMORY_BYTES);
    const memory = native.map(fd, { offset: 0, length: MEMORY_BYTES, writable: true });
    const guest = new RawGuest(client, memory, fd);
    try {
      await guest.mapMemory();
      return guest;
    } catch (error) {
      guest.close();
      throw error;
    }
  }

  /** Tells the device of the memory, at `address`. */
  async mapMemory(address = RawGuest.IOVA): Promise<void> {
    await this.client.dmaMap({ address, size: MEMORY_BYTES, fd: this.fd });
  }

  async unmapMemory(address = RawGuest.IOVA): Promise<void> {
    await this.client.dmaUnmap(address, MEMORY_BYTES);
  }

  /** Idempotent. */
  close(): void {
    this.client.close();
    this.memory.release();
    if (!this.closed) native.closeFd(this.fd);
    this.closed = true;
  }
}
