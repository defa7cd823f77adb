import type {
  InterruptPort,
  MemoryAccessor,
  VirtioVhostUserFunction,
} from '../../src/hosts/in-process/index.js';
import type { V86Cpu, V86Pci } from './machine.js';
import { MmioMap } from './mmio.js';

/** Guest memory is an array that moves when the wasm memory grows. */
export function guestMemory(cpu: V86Cpu): MemoryAccessor {
  const holds = (address: number, length: number): boolean =>
    address + length <= (cpu.memory_size[0] ?? 0);
  return {
    read: (address, target) => {
      if (!holds(address, target.length)) return false;
      target.set(cpu.mem8.subarray(address, address + target.length));
      return true;
    },
    write: (address, bytes) => {
      if (!holds(address, bytes.length)) return false;
      cpu.write_blob(bytes, address);
      return true;
    },
  };
}

/** v86 has no MSI: a driver that wants interrupts gets INTA. */
export function interrupts(cpu: V86Cpu, bdf: number): InterruptPort {
  const { pci } = cpu.devices;
  return {
    msix: () => undefined,
    intx: (asserted) => (asserted ? pci.raise_irq(bdf) : pci.lower_irq(bdf)),
  };
}

/**
 * Plugs the function into the PCI bus. v86 keeps configuration space as an array of its own and
 * cannot move memory BARs, so accesses to this function are taken before it sees them.
 */
export function plug(cpu: V86Cpu, bdf: number, device: VirtioVhostUserFunction): void {
  const { pci } = cpu.devices;
  const space = pci.register_device({
    name: 'virtio-vhost-user',
    pci_id: bdf,
    pci_space: Array<number>(256).fill(0),
    pci_bars: [],
  });
  const bytes = new Uint8Array(space.buffer);
  const refresh = (): void => {
    for (let at = 0; at < 256; at += 4) device.configRead(at, bytes.subarray(at, at + 4));
  };
  const query = pci.pci_query.bind(pci);
  pci.pci_query = () => {
    if ((((pci.pci_addr[2] ?? 0) << 8) | (pci.pci_addr[1] ?? 0)) === bdf) refresh();
    query();
  };
  const map = new MmioMap(cpu);
  const place = (): void => {
    const ranges = device.bars.flatMap(({ index, size }) => {
      const address = device.barAddress(index);
      // v86 emulates 32 address bits.
      if (address === undefined || address + BigInt(size) > 1n << 32n) return [];
      return {
        start: Number(address),
        length: size,
        read: (offset: number, target: Uint8Array) => device.barRead(index, offset, target),
        write: (offset: number, data: Uint8Array) => device.barWrite(index, offset, data),
      };
    });
    map.set(ranges);
  };
  device.on('bars-moved', place);
  takeWrites(pci, bdf, (offset, data) => device.configWrite(offset, data));
  const reboot = cpu.reboot_internal.bind(cpu);
  cpu.reboot_internal = () => {
    device.reset();
    reboot();
  };
}

function takeWrites(
  pci: V86Pci,
  bdf: number,
  write: (offset: number, data: Uint8Array) => void,
): void {
  const widths = { pci_write8: 1, pci_write16: 2, pci_write32: 4 } as const;
  for (const name of Object.keys(widths) as (keyof typeof widths)[]) {
    const original = pci[name].bind(pci);
    pci[name] = (address, value) => {
      if (((address >> 8) & 0xffff) !== bdf) {
        original(address, value);
        return;
      }
      const data = Buffer.alloc(4);
      data.writeInt32LE(value | 0);
      write(address & 0xff, data.subarray(0, widths[name]));
    };
  }
}
