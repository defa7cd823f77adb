import { badPayload, badSize, hex, viewOf, type NoPayload, type PayloadCodec } from '../codec.js';

/** No payload at all. */
export const empty: PayloadCodec<NoPayload> = {
  name: 'no payload',
  minSize: 0,
  maxSize: 0,
  decode(bytes) {
    if (bytes.length !== 0) {
      throw badSize('no payload', bytes.length, '0');
    }
    return undefined;
  },
  encode: () => Buffer.alloc(0),
  describe: () => '',
};

/** "A single 64-bit integer" of at most `max`: bits above it are reserved. */
function integer(name: string, max: bigint): PayloadCodec<bigint> {
  return {
    name,
    minSize: 8,
    maxSize: 8,
    decode(bytes, order) {
      if (bytes.length !== 8) {
        throw badSize(name, bytes.length, '8');
      }
      const value = viewOf(bytes).getBigUint64(0, order === 'LE');
      if (value > max) {
        throw badPayload(name, `value ${hex(value)} above ${hex(max)}`);
      }
      return value;
    },
    encode(value, order) {
      const bytes = Buffer.alloc(8);
      viewOf(bytes).setBigUint64(0, value, order === 'LE');
      return bytes;
    },
    describe: (value) => hex(value),
  };
}

export const u64 = integer('u64', 0xffff_ffff_ffff_ffffn);

/** Virtio device status (virtio 1.3 §2.1), 8 bits in a u64. */
export const deviceStatus = integer('device status', 0xffn);

/** An MTU as virtio-net has it (virtio 1.3 §5.1.4: le16). */
export const mtu = integer('mtu', 0xffffn);

/** Either nothing or `codec`: some replies are empty to say "error" or "nothing to add". */
export function orEmpty<T>(codec: PayloadCodec<T>): PayloadCodec<T | NoPayload> {
  return {
    name: `${codec.name} or nothing`,
    minSize: 0,
    maxSize: codec.maxSize,
    decode: (bytes, order) => (bytes.length === 0 ? undefined : codec.decode(bytes, order)),
    encode: (value, order) => (value === undefined ? Buffer.alloc(0) : codec.encode(value, order)),
    describe: (value) => (value === undefined ? '' : codec.describe(value)),
  };
}

/**
 * Bytes whose meaning is private to the two ends; they are not swapped. `size` bytes exactly, or up
 * to `maxSize`.
 */
export function opaque(name: string, minSize: number, maxSize: number): PayloadCodec<Buffer> {
  return {
    name,
    minSize,
    maxSize,
    decode(bytes) {
      if (bytes.length < minSize || bytes.length > maxSize) {
        throw badSize(name, bytes.length, `${minSize} to ${maxSize}`);
      }
      return Buffer.from(bytes);
    },
    encode: (value) => Buffer.from(value),
    describe: (value) => (value.length > 16 ? `${value.length} bytes` : value.toString('hex')),
  };
}
