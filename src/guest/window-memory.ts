/** The window BAR: mapped where the device could map it, trapped accesses elsewhere. */
import { VvuError, errorMessage } from '../errors.js';
import type { GuestMemory } from '../virtio/ports.js';
import type { WindowAccess, WindowFile } from './pci-access.js';
import type { MappedArea, RegionAreas } from './region-areas.js';

/** Accesses to the BAR by message, of any length; offsets count from the BAR's start. */
export interface TrappedAccess {
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

/**
 * Addresses are window offsets. Loads and stores of trapped places are single messages, which the
 * device answers in order, so they are as ordered as loads and stores of memory.
 */
export class WindowMemory implements WindowAccess, GuestMemory {
  readonly memory: GuestMemory = this;
  private readonly word = Buffer.alloc(4);
  private readonly half = this.word.subarray(0, 2);

  constructor(
    private readonly areas: RegionAreas,
    private readonly trapped: TrappedAccess,
    /** Offset of the window in its BAR. */
    private readonly base: number,
    readonly size: number,
    private readonly memoryFence: () => void,
    readonly remaps = false,
  ) {}

  mapped(offset: number, length: number): boolean {
    return this.areas.covers(this.base + offset, length);
  }

  file(offset: number, length: number): WindowFile | undefined {
    if (!(offset >= 0 && length > 0 && offset + length <= this.size)) return undefined;
    const at = this.base + offset;
    const area = this.areas.find(at);
    if (area === undefined || !area.writable || at + length > area.end) return undefined;
    return { fd: area.fd, offset: area.fileOffset + at - area.start };
  }

  read(offset: number, length: number): Buffer {
    // Checked before the allocation, because the length may come from the frontend.
    this.place(offset, length);
    const bytes = Buffer.allocUnsafe(length);
    this.readInto(offset, bytes);
    return bytes;
  }

  readInto(offset: number, target: Uint8Array): void {
    const at = this.place(offset, target.length);
    const area = this.areas.find(at);
    if (area !== undefined && at + target.length <= area.end) {
      area.memory.readInto(at - area.start, target);
      return;
    }
    this.pieces(at, target.length, (piece, from, start, end) => {
      const part = target.subarray(start, end);
      if (piece !== undefined) piece.memory.readInto(from - piece.start, part);
      else part.set(this.trap(() => this.trapped.read(from, part.length)));
    });
  }

  write(offset: number, bytes: Uint8Array): void {
    const at = this.place(offset, bytes.length);
    const area = this.areas.find(at);
    if (area !== undefined && at + bytes.length <= area.end) {
      area.memory.write(at - area.start, bytes);
      return;
    }
    this.pieces(at, bytes.length, (piece, from, start, end) => {
      const part = bytes.subarray(start, end);
      if (piece !== undefined) piece.memory.write(from - piece.start, part);
      else this.trap(() => this.trapped.write(from, part));
    });
  }

  loadU16(offset: number): number {
    const at = this.place(offset, 2);
    const area = this.field(at, 2);
    if (area !== undefined) return area.memory.loadU16(at - area.start);
    this.readInto(offset, this.half);
    return this.half.readUInt16LE();
  }

  storeU16(offset: number, value: number): void {
    const at = this.place(offset, 2);
    const area = this.field(at, 2);
    if (area !== undefined) {
      area.memory.storeU16(at - area.start, value);
      return;
    }
    this.half.writeUInt16LE(value);
    this.write(offset, this.half);
  }

  loadU32(offset: number): number {
    const at = this.place(offset, 4);
    const area = this.field(at, 4);
    if (area !== undefined) return area.memory.loadU32(at - area.start);
    this.readInto(offset, this.word);
    return this.word.readUInt32LE();
  }

  storeU32(offset: number, value: number): void {
    const at = this.place(offset, 4);
    const area = this.field(at, 4);
    if (area !== undefined) {
      area.memory.storeU32(at - area.start, value);
      return;
    }
    this.word.writeUInt32LE(value);
    this.write(offset, this.word);
  }

  fence(): void {
    this.memoryFence();
  }

  orByte(offset: number, bits: number): number {
    const at = this.place(offset, 1);
    const area = this.areas.find(at);
    if (area !== undefined) return area.memory.orByte(at - area.start, bits);
    const before = this.read(offset, 1)[0] ?? 0;
    if ((before | bits) !== before) this.write(offset, Buffer.of(before | bits));
    return before;
  }

  /** The BAR offset of a range of the window. */
  private place(offset: number, length: number): number {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) {
      throw new VvuError('WINDOW_RANGE', 'request', `window offset ${offset} + ${length}`);
    }
    return this.base + offset;
  }

  private field(at: number, size: number): MappedArea | undefined {
    const area = this.areas.find(at);
    return area !== undefined && at + size <= area.end ? area : undefined;
  }

  /** Cuts a range where mapped areas begin and end. */
  private pieces(
    at: number,
    length: number,
    visit: (area: MappedArea | undefined, from: number, start: number, end: number) => void,
  ): void {
    const end = at + length;
    for (let from = at; from < end;) {
      const area = this.areas.find(from);
      const to = Math.min(end, area?.end ?? this.areas.nextStart(from, end));
      visit(area, from, from - at, to - at);
      from = to;
    }
  }

  private trap<T>(access: () => T): T {
    try {
      return access();
    } catch (error) {
      throw new VvuError('WINDOW_ACCESS', 'request', `window: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }
}
