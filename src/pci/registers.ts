/**
 * Register blocks as ordered field tables.
 *
 * A table is layout, access rights and effects in one object; {@link RegisterFile} compiles it into
 * byte-granular reads and writes, so that a read path and a write path cannot drift apart.
 */
import { VvuError } from '../errors.js';
import type { RegisterBlock } from '../virtio/ports.js';

/** One little-endian field. Its offset is the sum of the widths before it. */
export interface Field<Name extends string = string> {
  /** The specification's name, unique in its table (except `reserved`). */
  readonly name: Name;
  /** Bytes: 1, 2 or 4; fields that are never written and read as 0 may have any width. */
  readonly width: number;
  /** Value after a reset, default 0. */
  readonly reset?: number;
  /** Bits that a write stores, default none: read-only. */
  readonly writable?: number;
  /** Bits that are cleared by writing 1 to them. */
  readonly w1c?: number;
  /** Bits that only trigger the write effect and are never stored: they read as 0. */
  readonly strobe?: number;
  /** Current value where it is kept elsewhere. Must have no side effect. */
  readonly get?: () => number;
  /**
   * Read effect: called once for each access that touches the field, whatever its width; gives the
   * value that the reader sees.
   */
  readonly read?: (current: number) => number;
  /**
   * Write effect: called once for each access that touches a writable bit of the field. Bytes that
   * the access did not cover keep their current value in `value`; strobe bits are in it.
   */
  readonly write?: (value: number, previous: number) => void;
}

/** Bytes that read as zero and ignore writes. */
export function reserved(width: number): Field<'reserved'> {
  return { name: 'reserved', width };
}

interface Slot {
  readonly field: Field;
  readonly offset: number;
  readonly end: number;
  /** Bits on which a write has any effect. */
  readonly live: number;
  stored: number;
}

/** A compiled field table with its storage. */
export class RegisterFile<Name extends string = string> implements RegisterBlock {
  readonly #slots: Slot[] = [];
  readonly #byName = new Map<string, Slot>();
  /** Index of the slot that holds each byte. */
  readonly #slotAt: Uint32Array;

  /** @throws VvuError of scope `bug` when the table's total differs from the specification's */
  constructor(
    readonly name: string,
    fields: readonly Field<Name>[],
    readonly size: number,
  ) {
    this.#slotAt = new Uint32Array(size);
    let offset = 0;
    for (const field of fields) {
      const end = offset + field.width;
      const live = ((field.writable ?? 0) | (field.w1c ?? 0) | (field.strobe ?? 0)) >>> 0;
      const slot = { field, offset, end, live, stored: (field.reset ?? 0) >>> 0 };
      this.#check(slot);
      this.#slotAt.fill(this.#slots.length, offset, end);
      this.#slots.push(slot);
      this.#byName.set(field.name, slot);
      offset = end;
    }
    if (offset !== size) throw this.#bug(`its fields take ${offset} bytes instead of ${size}`);
  }

  /** Byte offset of a field. */
  offsetOf(name: Name): number {
    return this.#slot(name).offset;
  }

  /** Value of a field, without its read effect. */
  get(name: Name): number {
    return current(this.#slot(name));
  }

  /** Stores a value, read-only or not, without the write effect. */
  set(name: Name, value: number): void {
    this.#slot(name).stored = value >>> 0;
  }

  /** Back to the reset values, without any effect. */
  reset(): void {
    for (const slot of this.#slots) slot.stored = (slot.field.reset ?? 0) >>> 0;
  }

  read(offset: number, target: Uint8Array): void {
    const end = offset + target.length;
    for (let at = offset; at < end;) {
      const slot = this.#slotFor(at);
      const stop = Math.min(slot.end, end);
      let value = current(slot);
      if (slot.field.read) value = slot.field.read(value) >>> 0;
      if (value === 0) {
        target.fill(0, at - offset, stop - offset);
        at = stop;
      }
      for (; at < stop; at++) target[at - offset] = value >>> (8 * (at - slot.offset));
    }
  }

  write(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length;
    for (let at = offset; at < end;) {
      const slot = this.#slotFor(at);
      const stop = Math.min(slot.end, end);
      if (slot.live === 0) {
        at = stop;
        continue;
      }
      let cover = 0;
      let data = 0;
      for (; at < stop; at++) {
        const shift = 8 * (at - slot.offset);
        cover |= 0xff << shift;
        data |= (bytes[at - offset] ?? 0) << shift;
      }
      if ((cover & slot.live) !== 0) store(slot, cover, data);
    }
  }

  #slotFor(at: number): Slot {
    const slot = this.#slots[this.#slotAt[at] ?? -1];
    if (!slot) throw this.#bug(`byte ${at} is outside`);
    return slot;
  }

  #slot(name: string): Slot {
    const slot = this.#byName.get(name);
    if (!slot) throw this.#bug(`it has no field ${name}`);
    return slot;
  }

  #check({ field, live, end }: Slot): void {
    const inert = live === 0 && !field.reset && !field.get && !field.read;
    const widthOk = inert ? field.width > 0 : [1, 2, 4].includes(field.width);
    if (!widthOk || !Number.isInteger(field.width)) {
      throw this.#bug(`field ${field.name} has width ${field.width}`);
    }
    if (end > this.size) throw this.#bug(`field ${field.name} ends after ${this.size}`);
    if (field.name !== 'reserved' && this.#byName.has(field.name)) {
      throw this.#bug(`field ${field.name} is there twice`);
    }
  }

  #bug(what: string): VvuError {
    return new VvuError('REGISTER_TABLE', 'bug', `register table ${this.name}: ${what}`);
  }
}

function current(slot: Slot): number {
  return slot.field.get ? slot.field.get() >>> 0 : slot.stored;
}

/** One access's effect on one field; `cover` has the bits of the bytes that were written. */
function store(slot: Slot, cover: number, data: number): void {
  const { writable = 0, w1c = 0, strobe = 0, write } = slot.field;
  const previous = current(slot);
  const taken = writable & cover;
  const value = ((previous & ~taken) | (data & taken)) & ~(data & w1c);
  slot.stored = (value & ~strobe) >>> 0;
  write?.(((value & ~strobe) | (data & strobe)) >>> 0, previous);
}
