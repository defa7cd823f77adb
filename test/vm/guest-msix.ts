import type { GuestBuffer } from './guest-memory.js';
import type { GuestPci } from './guest-pci.js';
import { msix } from './pci-config.js';

const MSIX_ENABLE = 0x8000;

/**
 * MSI-X vectors that write into a guest buffer, for guests without an IOMMU, whose kernel lets no
 * program receive interrupts (Debian's has no VFIO_NOIOMMU).
 *
 * An MSI is a memory write of the function's choosing (PCIe base specification §6.1.4), so one
 * whose address is RAM is seen there. Vector i writes the value i + 1 to word i.
 */
export class MemoryVectors {
  private constructor(
    readonly pci: GuestPci,
    readonly memory: GuestBuffer,
    readonly offset: number,
  ) {}

  /** Sets up `count` vectors, using as many 32-bit words of `memory` from `offset` on. */
  static async enable(
    pci: GuestPci,
    memory: GuestBuffer,
    { offset, count }: { offset: number; count: number },
  ): Promise<MemoryVectors> {
    const found = msix(await pci.config());
    for (let vector = 0; vector < count; vector++) {
      const address = memory.address + BigInt(offset + 4 * vector);
      const entry = found.tableOffset + 16 * vector;
      await pci.write(found.tableBar, entry, 4, address & 0xffffffffn);
      await pci.write(found.tableBar, entry + 4, 4, address >> 32n);
      await pci.write(found.tableBar, entry + 8, 4, vector + 1);
      await pci.write(found.tableBar, entry + 12, 4, 0);
    }
    const control = await pci.configRead(found.offset + 2, 2);
    await pci.configWrite(found.offset + 2, 2, control | MSIX_ENABLE);
    return new MemoryVectors(pci, memory, offset);
  }

  /** Whether the vector fired since the last call; waits at most `timeout` ms for it. */
  async fired(vector: number, timeout: number): Promise<boolean> {
    const at = this.offset + 4 * vector;
    const value = await this.memory.change(at, 4, 0, timeout);
    await this.memory.write(at, Buffer.alloc(4));
    return value === vector + 1;
  }

  async disable(): Promise<void> {
    const { offset } = msix(await this.pci.config());
    const control = await this.pci.configRead(offset + 2, 2);
    await this.pci.configWrite(offset + 2, 2, control & ~MSIX_ENABLE);
  }
}
