import { VHOST_MEMORY_BASELINE_NREGIONS } from '../constants.js';
import { badPayload, badSize, hex, viewOf, type PayloadCodec } from '../codec.js';
import { Struct, type StructValue } from './struct.js';

const regionFields = {
  guestAddress: 'u64',
  size: 'u64',
  userAddress: 'u64',
  mmapOffset: 'u64',
} as const;
/** "Memory region description" (without Xen's two fields). */
export type MemoryRegion = StructValue<typeof regionFields>;

const region = new Struct(regionFields);
const END_OF_ADDRESSES = 1n << 64n;

function checkRange(name: string, what: string, start: bigint, size: bigint): void {
  if (start + size > END_OF_ADDRESSES) {
    throw badPayload(name, `${what} ${hex(start)} plus size ${hex(size)} overflows`);
  }
}

function checkRegion(name: string, value: MemoryRegion): void {
  if (value.size === 0n) {
    throw badPayload(name, 'region of size 0');
  }
  checkRange(name, 'guest address', value.guestAddress, value.size);
  checkRange(name, 'user address', value.userAddress, value.size);
}

/** "Multiple Memory regions description": at most 8, and the size says as many as the count. */
export const memoryTable: PayloadCodec<readonly MemoryRegion[]> = {
  name: 'memory table',
  minSize: 8 + region.size,
  maxSize: 8 + VHOST_MEMORY_BASELINE_NREGIONS * region.size,
  decode(bytes, order) {
    if (bytes.length < 8) {
      throw badSize('memory table', bytes.length, 'at least 8');
    }
    const count = viewOf(bytes).getUint32(0, order === 'LE');
    if (count === 0 || count > VHOST_MEMORY_BASELINE_NREGIONS) {
      throw badPayload('memory table', `${count} regions, expected 1 to 8`);
    }
    if (bytes.length !== 8 + count * region.size) {
      throw badSize('memory table', bytes.length, `${8 + count * region.size}`);
    }
    return Array.from({ length: count }, (_, index) => {
      const value = region.read(bytes, 8 + index * region.size, order);
      checkRegion('memory table', value);
      checkRange('memory table', 'mmap offset', value.mmapOffset, value.size);
      return value;
    });
  },
  encode(regions, order) {
    const bytes = Buffer.alloc(8 + regions.length * region.size);
    viewOf(bytes).setUint32(0, regions.length, order === 'LE');
    regions.forEach((value, index) => {
      region.write(bytes, 8 + index * region.size, value, order);
    });
    return bytes;
  },
  describe: (regions) => regions.map((value) => `[${region.describe(value)}]`).join(' '),
};

/** "Single memory region description": 8 bytes of padding and a region. */
function singleRegion(name: string, usesOffset: boolean): PayloadCodec<MemoryRegion> {
  const size = 8 + region.size;
  return {
    name,
    minSize: size,
    maxSize: size,
    decode(bytes, order) {
      if (bytes.length !== size) {
        throw badSize(name, bytes.length, String(size));
      }
      const value = region.read(bytes, 8, order);
      checkRegion(name, value);
      if (usesOffset) {
        checkRange(name, 'mmap offset', value.mmapOffset, value.size);
      }
      return value;
    },
    encode(value, order) {
      const bytes = Buffer.alloc(size);
      region.write(bytes, 8, value, order);
      return bytes;
    },
    describe: (value) => region.describe(value),
  };
}

export const memoryRegion = singleRegion('memory region', true);
/** REM_MEM_REG: "The mmap offset is ignored." */
export const removedMemoryRegion = singleRegion('removed memory region', false);
