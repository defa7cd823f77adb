import {
  VHOST_USER_VRING_IDX_MASK,
  VHOST_USER_VRING_NOFD_MASK,
  VHOST_VRING_F_LOG,
} from '../constants.js';
import { badPayload, hex, type PayloadCodec } from '../codec.js';
import { u64 } from './simple.js';
import { structCodec, type StructValue } from './struct.js';

const stateFields = { index: 'u32', num: 'u32' } as const;
/** "A vring state description", and with another meaning of `num` the descriptor indices. */
export type VringState = StructValue<typeof stateFields>;

/**
 * `num` of GET_VRING_BASE is reserved, yet DPDK's virtio-user leaves the previous ring's answer in
 * it, so it is not checked here.
 */
export const vringState = structCodec('vring state', stateFields);

/** A vring state whose `num` is a truth value: SET_VRING_ENABLE, SET_VRING_ENDIAN. */
export const vringSwitch = structCodec('vring state', stateFields, ({ num }) => {
  if (num > 1) {
    throw badPayload('vring state', `num is ${num}, neither 0 nor 1`);
  }
});

const addressFields = {
  index: 'u32',
  flags: 'x32',
  descriptor: 'u64',
  used: 'u64',
  available: 'u64',
  log: 'u64',
} as const;
/** "A vring address description"; addresses are user addresses, or IOVAs behind a vIOMMU. */
export type VringAddress = StructValue<typeof addressFields>;

export const vringAddress = structCodec('vring address', addressFields, (value) => {
  if (value.flags > 1 << VHOST_VRING_F_LOG) {
    throw badPayload('vring address', `reserved flags ${hex(value.flags)}`);
  }
});

/** Payload of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR. */
export interface VringFd {
  readonly index: number;
  /** "Invalid FD flag": no fd comes with the message, the peer polls. */
  readonly noFd: boolean;
}

export const vringFd: PayloadCodec<VringFd> = {
  name: 'vring fd',
  minSize: 8,
  maxSize: 8,
  decode(bytes, order) {
    const value = u64.decode(bytes, order);
    if (value > BigInt(VHOST_USER_VRING_IDX_MASK | VHOST_USER_VRING_NOFD_MASK)) {
      throw badPayload('vring fd', `reserved bits in ${hex(value)}`);
    }
    const bits = Number(value);
    return {
      index: bits & VHOST_USER_VRING_IDX_MASK,
      noFd: (bits & VHOST_USER_VRING_NOFD_MASK) !== 0,
    };
  },
  encode: ({ index, noFd }, order) =>
    u64.encode(
      BigInt((index & VHOST_USER_VRING_IDX_MASK) | (noFd ? VHOST_USER_VRING_NOFD_MASK : 0)),
      order,
    ),
  describe: ({ index, noFd }) => `index=${index}${noFd ? ' no-fd' : ''}`,
};

const areaFields = { vring: 'u64', size: 'u64', offset: 'u64' } as const;
/** "Vring area description" of a host notifier; `vring` is index and flags. */
export type VringArea = StructValue<typeof areaFields>;

export const vringArea = structCodec('vring area', areaFields, ({ vring }) => {
  if (vring > BigInt(VHOST_USER_VRING_IDX_MASK | VHOST_USER_VRING_NOFD_MASK)) {
    throw badPayload('vring area', `reserved bits in ${hex(vring)}`);
  }
});
