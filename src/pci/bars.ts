/**
 * Checks of BARs at setup, and piecewise access to what lies in them.
 */
import { VvuError, errorCode, errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import { PCI_STD_NUM_BARS } from './constants.js';
import type { Bar, BarDefinition, BarRegion } from './ports.js';

/** @throws VvuError of scope `setup` for sizes, indices or regions that cannot be */
export function checkBars(bars: readonly Bar[]): void {
  const taken = new Set<number>();
  for (const bar of bars) {
    checkDefinition(bar);
    for (const index of bar.kind === 'memory64' ? [bar.index, bar.index + 1] : [bar.index]) {
      if (index >= PCI_STD_NUM_BARS || taken.has(index)) {
        throw new VvuError('BAD_LAYOUT', 'setup', `BAR ${index} is taken or does not exist`);
      }
      taken.add(index);
    }
    checkRegions(bar);
  }
}

function checkDefinition({ index, size, kind }: BarDefinition): void {
  const limit = kind === 'memory64' ? Number.MAX_SAFE_INTEGER : 2 ** 31;
  const powerOfTwo = Number.isSafeInteger(size) && 2 ** Math.round(Math.log2(size)) === size;
  if (!powerOfTwo || size < 16 || size > limit || !Number.isInteger(index) || index < 0) {
    throw new VvuError('BAD_LAYOUT', 'setup', `BAR ${index}: no ${kind} can have ${size} bytes`);
  }
}

function checkRegions({ index, size, regions }: Bar): void {
  let last = 0;
  for (const { offset, length, block } of sorted(regions)) {
    const ok =
      Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length > 0;
    if (!ok || offset + length > size || length > block.size) {
      const where = `${length} bytes at ${offset}`;
      throw new VvuError('BAD_LAYOUT', 'setup', `BAR ${index} of ${size} bytes: no room: ${where}`);
    }
    if (offset < last) {
      throw new VvuError('BAD_LAYOUT', 'setup', `BAR ${index}: regions overlap at ${offset}`);
    }
    last = offset + length;
  }
}

function sorted(regions: readonly BarRegion[]): BarRegion[] {
  return [...regions].sort((a, b) => a.offset - b.offset);
}

/** Serves accesses to one BAR: of any width and alignment, across regions, holes and its end. */
export class BarSpace {
  readonly #regions: readonly BarRegion[];

  constructor(
    readonly bar: Bar,
    private readonly log: Logger,
  ) {
    this.#regions = sorted(bar.regions);
  }

  read(offset: number, target: Uint8Array): void {
    target.fill(0);
    this.#split(offset, target.length, ({ block }, inBlock, from, length) => {
      const part = target.subarray(from, from + length);
      this.#guard('read', offset + from, () => block.read(inBlock, part));
    });
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#split(offset, bytes.length, ({ block }, inBlock, from, length) => {
      const part = bytes.subarray(from, from + length);
      this.#guard('write', offset + from, () => block.write(inBlock, part));
    });
  }

  #split(
    offset: number,
    length: number,
    visit: (region: BarRegion, inBlock: number, from: number, length: number) => void,
  ): void {
    if (!Number.isSafeInteger(offset) || offset < 0) return;
    for (const region of this.#regions) {
      const start = Math.max(offset, region.offset);
      const end = Math.min(offset + length, region.offset + region.length);
      if (start < end) visit(region, start - region.offset, start - offset, end - start);
    }
  }

  /** A block must not throw; if one does, the guest's access is lost and the process goes on. */
  #guard(what: string, offset: number, access: () => void): void {
    try {
      access();
    } catch (error) {
      const { index: bar } = this.bar;
      const detail = { bar, offset, code: errorCode(error), error: errorMessage(error) };
      this.log.error(detail, `BAR ${what} failed`);
    }
  }
}
