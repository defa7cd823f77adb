/**
 * The part of a v86 machine that a PCI device uses. The package's types stop at its public API;
 * these are its internals, as its own devices see them.
 */

/** Blocks of v86's memory-mapped I/O tables: 128 KiB each, one handler per block. */
export const MMIO_BLOCK_BITS = 17;

type Read = (address: number) => number;
type Write = (address: number, value: number) => void;

export interface V86Pci {
  readonly pci_addr: Uint8Array;
  pci_query(): void;
  pci_write8(address: number, value: number): void;
  pci_write16(address: number, value: number): void;
  pci_write32(address: number, value: number): void;
  register_device(device: {
    readonly name: string;
    readonly pci_id: number;
    readonly pci_space: readonly number[];
    readonly pci_bars: readonly undefined[];
  }): Int32Array;
  raise_irq(bdf: number): void;
  lower_irq(bdf: number): void;
}

export interface V86Cpu {
  readonly memory_size: Uint32Array;
  /** A view of the wasm memory; replaced when that grows, so never kept. */
  readonly mem8: Uint8Array;
  readonly devices: { readonly pci: V86Pci };
  readonly memory_map_read8: Read[];
  readonly memory_map_read32: Read[];
  readonly memory_map_write8: Write[];
  readonly memory_map_write32: Write[];
  /** A 16-bit store outside of RAM; v86 makes two 8-bit ones of it. 16-bit loads always are two. */
  mmap_write16(address: number, value: number): void;
  /** Reset of the machine: by `V86.restart`, or command 0xfe of the keyboard controller. */
  reboot_internal(): void;
  /** Writes guest memory, and drops what was compiled from it. */
  write_blob(bytes: Uint8Array, address: number): void;
}
