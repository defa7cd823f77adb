import { MMIO_BLOCK_BITS, type V86Cpu } from './machine.js';

/** A range of guest physical addresses that a device decodes. */
export interface MmioRange {
  readonly start: number;
  readonly length: number;
  read(offset: number, target: Uint8Array): void;
  write(offset: number, bytes: Uint8Array): void;
}

/**
 * Puts ranges of any size and place into v86's memory map. v86 has one handler per 128 KiB, set
 * once; small BARs share such a block with each other and with other devices, and move.
 */
export class MmioMap {
  private readonly undo = new Map<number, () => void>();
  private ranges: readonly MmioRange[] = [];

  /**
   * 16-bit stores become one access here: a virtio driver stores queue_size with its natural width
   * (virtio 1.3 §4.1.3.1), and each half alone would be a size that a device refuses.
   */
  constructor(private readonly cpu: V86Cpu) {
    const split = cpu.mmap_write16.bind(cpu);
    cpu.mmap_write16 = (address, value) => {
      const range = this.find(address >>> 0, 2);
      if (range === undefined) {
        split(address, value);
        return;
      }
      range.write((address >>> 0) - range.start, Buffer.of(value, value >>> 8));
    };
  }

  /** Replaces all ranges. */
  set(ranges: readonly MmioRange[]): void {
    for (const restore of this.undo.values()) restore();
    this.undo.clear();
    this.ranges = ranges;
    for (const { start, length } of ranges) {
      const last = Math.floor((start + length - 1) / 2 ** MMIO_BLOCK_BITS);
      for (let block = start >>> MMIO_BLOCK_BITS; block <= last; block++) {
        if (!this.undo.has(block)) this.undo.set(block, this.take(block));
      }
    }
  }

  private take(block: number): () => void {
    const { cpu } = this;
    const undo = [
      this.takeReads(cpu.memory_map_read8, block, 1),
      this.takeReads(cpu.memory_map_read32, block, 4),
      this.takeWrites(cpu.memory_map_write8, block, 1),
      this.takeWrites(cpu.memory_map_write32, block, 4),
    ];
    return () => undo.forEach((restore) => restore());
  }

  private takeReads(map: V86Cpu['memory_map_read8'], block: number, width: number): () => void {
    const before = map[block];
    map[block] = (address) => {
      const range = this.find(address >>> 0, width);
      if (range === undefined) return before?.(address) ?? -1 >>> (32 - 8 * width);
      const target = Buffer.alloc(width);
      range.read((address >>> 0) - range.start, target);
      return width === 1 ? (target[0] ?? 0) : target.readInt32LE();
    };
    return () => restore(map, block, before);
  }

  private takeWrites(map: V86Cpu['memory_map_write8'], block: number, width: number): () => void {
    const before = map[block];
    map[block] = (address, value) => {
      const range = this.find(address >>> 0, width);
      if (range === undefined) return before?.(address, value);
      const bytes = Buffer.alloc(4);
      bytes.writeInt32LE(value | 0);
      range.write((address >>> 0) - range.start, bytes.subarray(0, width));
    };
    return () => restore(map, block, before);
  }

  private find(address: number, width: number): MmioRange | undefined {
    return this.ranges.find(
      ({ start, length }) => address >= start && address + width <= start + length,
    );
  }
}

function restore<T>(map: T[], block: number, before: T | undefined): void {
  if (before === undefined) Reflect.deleteProperty(map, block);
  else map[block] = before;
}
