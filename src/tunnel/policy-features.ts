import * as c from '../vhost-user/index.js';
import type { PolicyRow, Treatment } from './policy.js';
import * as test from './policy-tests.js';

/** A protocol feature and its bit number. */
interface FeaturePolicy extends PolicyRow {
  readonly bit: number;
}

type Row = (bit: number, test: string, note?: string) => FeaturePolicy;

/** Rows of one treatment: the bit, the test's title, and details. */
function rows(treatment: Treatment): Row {
  return (bit, title, note = '') => ({ bit, treatment, note, test: title });
}

const pass = rows('pass');
const handle = rows('handle');
const provide = rows('provide');
const mask = rows('mask');

/** Protocol features, by the specification's names. */
export const FEATURE_POLICY = {
  MQ: pass(c.VHOST_USER_PROTOCOL_F_MQ, test.PAIRS),
  LOG_SHMFD: pass(
    c.VHOST_USER_PROTOCOL_F_LOG_SHMFD,
    test.LOG_BASE,
    'the log is one more region of the window',
  ),
  RARP: pass(c.VHOST_USER_PROTOCOL_F_RARP, test.RARP),
  REPLY_ACK: pass(c.VHOST_USER_PROTOCOL_F_REPLY_ACK, test.REPLY_ACK),
  NET_MTU: pass(c.VHOST_USER_PROTOCOL_F_NET_MTU, test.MTU),
  BACKEND_REQ: handle(
    c.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
    test.CHANNEL,
    'the device holds the socket; see The backend channel',
  ),
  CROSS_ENDIAN: pass(c.VHOST_USER_PROTOCOL_F_CROSS_ENDIAN, test.ENDIAN),
  CRYPTO_SESSION: pass(
    c.VHOST_USER_PROTOCOL_F_CRYPTO_SESSION,
    test.CRYPTO,
    "masked on a big-endian host: the structure is QEMU's own, nobody can swap it",
  ),
  PAGEFAULT: mask(
    c.VHOST_USER_PROTOCOL_F_PAGEFAULT,
    test.POSTCOPY,
    'the guest would have to send a userfaultfd',
  ),
  CONFIG: pass(c.VHOST_USER_PROTOCOL_F_CONFIG, test.CONFIG),
  BACKEND_SEND_FD: mask(
    c.VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD,
    test.OFFERED,
    'a guest has no fds to send',
  ),
  HOST_NOTIFIER: mask(c.VHOST_USER_PROTOCOL_F_HOST_NOTIFIER, test.OFFERED, 'likewise'),
  INFLIGHT_SHMFD: provide(
    c.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
    test.GET_INFLIGHT,
    'the file is a memfd of the device, which the window shows',
  ),
  RESET_DEVICE: pass(c.VHOST_USER_PROTOCOL_F_RESET_DEVICE, test.RESET),
  INBAND_NOTIFICATIONS: pass(
    c.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
    test.INBAND,
    'kicks in rxq, calls and errors over the backend channel',
  ),
  CONFIGURE_MEM_SLOTS: pass(c.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS, test.SLOTS),
  STATUS: pass(c.VHOST_USER_PROTOCOL_F_STATUS, test.STATUS),
  XEN_MMAP: mask(
    c.VHOST_USER_PROTOCOL_F_XEN_MMAP,
    test.OFFERED,
    'another format of memory regions',
  ),
  SHARED_OBJECT: mask(
    c.VHOST_USER_PROTOCOL_F_SHARED_OBJECT,
    test.NO_FDS,
    'a guest has no fds to send',
  ),
  DEVICE_STATE: mask(
    c.VHOST_USER_PROTOCOL_F_DEVICE_STATE,
    test.OFFERED,
    'the state is a stream beside the messages, which nothing shows to a guest',
  ),
  GET_VRING_BASE_INFLIGHT: pass(
    c.VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT,
    test.OFFERED,
    'goes with 12; no message of its own',
  ),
  GPA_ADDRESSES: mask(
    c.VHOST_USER_PROTOCOL_F_GPA_ADDRESSES,
    test.OFFERED,
    'ring addresses would be guest addresses; what is checked here are user addresses',
  ),
  SHMEM: provide(
    c.VHOST_USER_PROTOCOL_F_SHMEM,
    test.SHMEM,
    "masked without `--share-memory`: the file that it maps is the appliance's RAM",
  ),
} as const satisfies Readonly<Record<string, FeaturePolicy>>;
