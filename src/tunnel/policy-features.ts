import * as c from '../vhost-user/index.js';
import type { PolicyRow } from './policy.js';

const OFFERED = 'the allow list is exactly the features whose row does not mask them';

/** Protocol features, by the specification's names. */
export const FEATURE_POLICY = {
  MQ: { bit: c.VHOST_USER_PROTOCOL_F_MQ, treatment: 'pass', note: '', test: OFFERED },
  LOG_SHMFD: {
    bit: c.VHOST_USER_PROTOCOL_F_LOG_SHMFD,
    treatment: 'pass',
    note: 'the log is one more region of the window',
    test: OFFERED,
  },
  RARP: { bit: c.VHOST_USER_PROTOCOL_F_RARP, treatment: 'pass', note: '', test: OFFERED },
  REPLY_ACK: { bit: c.VHOST_USER_PROTOCOL_F_REPLY_ACK, treatment: 'pass', note: '', test: OFFERED },
  NET_MTU: { bit: c.VHOST_USER_PROTOCOL_F_NET_MTU, treatment: 'pass', note: '', test: OFFERED },
  BACKEND_REQ: {
    bit: c.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
    treatment: 'mask',
    note: 'the backend channel is not tunnelled yet',
    test: OFFERED,
  },
  CROSS_ENDIAN: {
    bit: c.VHOST_USER_PROTOCOL_F_CROSS_ENDIAN,
    treatment: 'pass',
    note: '',
    test: OFFERED,
  },
  CRYPTO_SESSION: {
    bit: c.VHOST_USER_PROTOCOL_F_CRYPTO_SESSION,
    treatment: 'pass',
    note: "masked on a big-endian host: the structure is QEMU's own, nobody can swap it",
    test: OFFERED,
  },
  PAGEFAULT: {
    bit: c.VHOST_USER_PROTOCOL_F_PAGEFAULT,
    treatment: 'mask',
    note: 'the guest would have to send a userfaultfd',
    test: OFFERED,
  },
  CONFIG: { bit: c.VHOST_USER_PROTOCOL_F_CONFIG, treatment: 'pass', note: '', test: OFFERED },
  BACKEND_SEND_FD: {
    bit: c.VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD,
    treatment: 'mask',
    note: 'a guest has no fds to send',
    test: OFFERED,
  },
  HOST_NOTIFIER: {
    bit: c.VHOST_USER_PROTOCOL_F_HOST_NOTIFIER,
    treatment: 'mask',
    note: 'likewise',
    test: OFFERED,
  },
  INFLIGHT_SHMFD: {
    bit: c.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
    treatment: 'provide',
    note: 'the file is a memfd of the device, which the window shows',
    test: OFFERED,
  },
  RESET_DEVICE: {
    bit: c.VHOST_USER_PROTOCOL_F_RESET_DEVICE,
    treatment: 'pass',
    note: '',
    test: OFFERED,
  },
  INBAND_NOTIFICATIONS: {
    bit: c.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
    treatment: 'mask',
    note: 'calls would need the backend channel',
    test: OFFERED,
  },
  CONFIGURE_MEM_SLOTS: {
    bit: c.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
    treatment: 'pass',
    note: '',
    test: OFFERED,
  },
  STATUS: { bit: c.VHOST_USER_PROTOCOL_F_STATUS, treatment: 'pass', note: '', test: OFFERED },
  XEN_MMAP: {
    bit: c.VHOST_USER_PROTOCOL_F_XEN_MMAP,
    treatment: 'mask',
    note: 'another format of memory regions',
    test: OFFERED,
  },
  SHARED_OBJECT: {
    bit: c.VHOST_USER_PROTOCOL_F_SHARED_OBJECT,
    treatment: 'mask',
    note: 'a guest has no fds to send',
    test: OFFERED,
  },
  DEVICE_STATE: {
    bit: c.VHOST_USER_PROTOCOL_F_DEVICE_STATE,
    treatment: 'mask',
    note: 'the state is a stream beside the messages, which nothing shows to a guest',
    test: OFFERED,
  },
  GET_VRING_BASE_INFLIGHT: {
    bit: c.VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT,
    treatment: 'pass',
    note: 'goes with 12; no message of its own',
    test: OFFERED,
  },
  GPA_ADDRESSES: {
    bit: c.VHOST_USER_PROTOCOL_F_GPA_ADDRESSES,
    treatment: 'mask',
    note: "belongs to the backend channel's memory requests",
    test: OFFERED,
  },
  SHMEM: {
    bit: c.VHOST_USER_PROTOCOL_F_SHMEM,
    treatment: 'mask',
    note: 'a guest has no fds to send',
    test: OFFERED,
  },
} as const satisfies Readonly<Record<string, PolicyRow & { readonly bit: number }>>;
