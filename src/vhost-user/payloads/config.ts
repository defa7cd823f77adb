import { VHOST_USER_MAX_CONFIG_SIZE, VHOST_USER_MAX_SHMEM_REGIONS } from '../constants.js';
import { badPayload, badSize, hex, viewOf, type PayloadCodec } from '../codec.js';
import { Struct } from './struct.js';

/** "Virtio device config space": a piece of it. */
export interface ConfigSpace {
  readonly offset: number;
  readonly flags: number;
  /** The piece's bytes; in a GET_CONFIG request only their number counts. */
  readonly data: Buffer;
}

/** No device's configuration is larger than a page (rust-vmm's limit; QEMU's is 256). */
const CONFIG_SPACE_END = 0x1000;

const header = new Struct({ offset: 'u32', size: 'u32', flags: 'u32' });

export const configSpace: PayloadCodec<ConfigSpace> = {
  name: 'config space',
  minSize: header.size,
  maxSize: header.size + VHOST_USER_MAX_CONFIG_SIZE,
  decode(bytes, order) {
    const length = bytes.length - header.size;
    if (length < 0 || length > VHOST_USER_MAX_CONFIG_SIZE) {
      throw badSize('config space', bytes.length, '12 to 268');
    }
    const { offset, size, flags } = header.read(bytes, 0, order);
    if (size !== length) {
      throw badSize('config space', bytes.length, `12 plus the size field, ${size}`);
    }
    if (offset + size > CONFIG_SPACE_END) {
      throw badPayload('config space', `offset ${offset} plus ${size} above 4096`);
    }
    if (flags > 1) {
      throw badPayload('config space', `reserved flags ${hex(flags)}`);
    }
    return { offset, flags, data: Buffer.from(bytes.subarray(header.size)) };
  },
  encode({ offset, flags, data }, order) {
    const bytes = Buffer.alloc(header.size + data.length);
    header.write(bytes, 0, { offset, size: data.length, flags }, order);
    bytes.set(data, header.size);
    return bytes;
  },
  describe: ({ offset, flags, data }) => `offset=${offset} size=${data.length} flags=${hex(flags)}`,
};

/** QEMU's VhostUserShMemConfig; entries past the regions are kept, as QEMU's array is fixed. */
export interface ShmemConfig {
  readonly regions: number;
  readonly memorySizes: readonly bigint[];
}

export const shmemConfig: PayloadCodec<ShmemConfig> = {
  name: 'shared memory configuration',
  minSize: 8,
  maxSize: 8 + 8 * VHOST_USER_MAX_SHMEM_REGIONS,
  decode(bytes, order) {
    const entries = (bytes.length - 8) / 8;
    if (!Number.isInteger(entries) || entries < 0 || entries > VHOST_USER_MAX_SHMEM_REGIONS) {
      throw badSize('shared memory configuration', bytes.length, '8 plus a multiple of 8');
    }
    const view = viewOf(bytes);
    const regions = view.getUint32(0, order === 'LE');
    if (regions > entries) {
      throw badPayload('shared memory configuration', `${regions} regions in ${entries} entries`);
    }
    return {
      regions,
      memorySizes: Array.from({ length: entries }, (_, index) =>
        view.getBigUint64(8 + index * 8, order === 'LE'),
      ),
    };
  },
  encode({ regions, memorySizes }, order) {
    const bytes = Buffer.alloc(8 + memorySizes.length * 8);
    const view = viewOf(bytes);
    view.setUint32(0, regions, order === 'LE');
    memorySizes.forEach((size, index) => {
      view.setBigUint64(8 + index * 8, size, order === 'LE');
    });
    return bytes;
  },
  describe: ({ regions, memorySizes }) =>
    `regions=${regions} sizes=[${memorySizes.slice(0, regions).map(hex).join(' ')}]`,
};
