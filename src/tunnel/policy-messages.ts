import type { BackendMessageName, FrontendMessageName } from '../vhost-user/index.js';
import type { MessagePolicy } from './policy.js';

const REQUESTS = 'every request of a frontend is treated as its row says';
const START = "QEMU's start of vhost-user-net passes, masked and rewritten where it must be";
const SLOTS = 'memory regions come and go one by one with CONFIGURE_MEM_SLOTS';
const LOG_BASE = 'SET_LOG_BASE shows the log and tells the guest its place';
const LOG = 'SET_LOG_FD binds the log doorbell and passes';
const GET_INFLIGHT = 'GET_INFLIGHT_FD: the guest sets a buffer up, and the frontend gets its memfd';
const SET_INFLIGHT = 'SET_INFLIGHT_FD shows the buffer and tells the guest its place';
const DISCARDED = 'every request of the guest is treated as its row says';

/** Requests of a frontend. */
export const FRONTEND_POLICY: Readonly<Record<FrontendMessageName, MessagePolicy>> = {
  GET_FEATURES: { treatment: 'mask', reply: 'u64', note: 'clears bit 33', test: START },
  SET_FEATURES: {
    treatment: 'pass',
    reply: 'ack',
    note: 'only bits that were offered on this connection',
    test: REQUESTS,
  },
  SET_OWNER: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  RESET_OWNER: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  SET_MEM_TABLE: {
    treatment: 'handle',
    reply: 'ack',
    note: 'one fd per region; the table is rewritten',
    test: START,
  },
  SET_LOG_BASE: {
    treatment: 'handle',
    reply: 'u64 or ack',
    note: 'the log is shown behind the regions; mmap_offset becomes its place',
    test: LOG_BASE,
  },
  SET_LOG_FD: { treatment: 'handle', reply: 'ack', note: 'the log doorbell', test: LOG },
  SET_VRING_NUM: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  SET_VRING_ADDR: { treatment: 'pass', reply: 'ack', note: '', test: START },
  SET_VRING_BASE: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  GET_VRING_BASE: { treatment: 'pass', reply: 'vring state', note: '', test: START },
  SET_VRING_KICK: {
    treatment: 'handle',
    reply: 'ack',
    note: "the vring's vector; the no-fd flag (bit 8) passes",
    test: START,
  },
  SET_VRING_CALL: {
    treatment: 'handle',
    reply: 'ack',
    note: "the vring's call doorbell",
    test: START,
  },
  SET_VRING_ERR: {
    treatment: 'handle',
    reply: 'ack',
    note: "the vring's err doorbell",
    test: START,
  },
  GET_PROTOCOL_FEATURES: { treatment: 'mask', reply: 'u64', note: 'the allow list', test: START },
  SET_PROTOCOL_FEATURES: {
    treatment: 'pass',
    reply: 'ack',
    note: 'only bits that were offered on this connection',
    test: REQUESTS,
  },
  GET_QUEUE_NUM: {
    treatment: 'handle',
    reply: 'u64',
    note: 'limited to max_vhost_queues',
    test: START,
  },
  SET_VRING_ENABLE: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  SEND_RARP: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  NET_SET_MTU: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  SET_BACKEND_REQ_FD: {
    treatment: 'refuse',
    reply: 'ack',
    note: 'BACKEND_REQ is masked',
    test: REQUESTS,
  },
  IOTLB_MSG: { treatment: 'refuse', reply: 'u64', note: 'bit 33 is never offered', test: REQUESTS },
  SET_VRING_ENDIAN: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  GET_CONFIG: { treatment: 'pass', reply: 'config space, or empty', note: '', test: REQUESTS },
  SET_CONFIG: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  CREATE_CRYPTO_SESSION: {
    treatment: 'pass',
    reply: 'crypto session',
    note: 'as bytes',
    test: REQUESTS,
  },
  CLOSE_CRYPTO_SESSION: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  POSTCOPY_ADVISE: {
    treatment: 'refuse',
    reply: 'empty, 1 fd',
    note: 'PAGEFAULT is masked',
    test: REQUESTS,
  },
  POSTCOPY_LISTEN: {
    treatment: 'refuse',
    reply: 'ack',
    note: 'PAGEFAULT is masked',
    test: REQUESTS,
  },
  POSTCOPY_END: { treatment: 'refuse', reply: 'u64', note: 'PAGEFAULT is masked', test: REQUESTS },
  GET_INFLIGHT_FD: {
    treatment: 'provide',
    reply: 'inflight description, 1 fd',
    note: 'the guest gets size and place of a buffer; the fd is a memfd of the device',
    test: GET_INFLIGHT,
  },
  SET_INFLIGHT_FD: {
    treatment: 'handle',
    reply: 'ack',
    note: "the buffer is shown at the window's end; mmap_offset becomes its place",
    test: SET_INFLIGHT,
  },
  GPU_SET_SOCKET: {
    treatment: 'refuse',
    reply: 'ack',
    note: 'a guest cannot have the socket',
    test: REQUESTS,
  },
  RESET_DEVICE: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  VRING_KICK: {
    treatment: 'refuse',
    reply: 'ack',
    note: 'INBAND_NOTIFICATIONS is masked',
    test: REQUESTS,
  },
  GET_MAX_MEM_SLOTS: { treatment: 'handle', reply: 'u64', note: 'limited to 64', test: SLOTS },
  ADD_MEM_REG: {
    treatment: 'handle',
    reply: 'ack',
    note: 'mmap_offset becomes the place',
    test: SLOTS,
  },
  REM_MEM_REG: {
    treatment: 'handle',
    reply: 'ack',
    note: 'an fd that comes with it is closed; mmap_offset becomes the place',
    test: SLOTS,
  },
  SET_STATUS: { treatment: 'pass', reply: 'ack', note: '', test: REQUESTS },
  GET_STATUS: { treatment: 'pass', reply: 'u64', note: '', test: REQUESTS },
  GET_SHARED_OBJECT: {
    treatment: 'refuse',
    reply: 'UUID or empty, 1 fd',
    note: 'SHARED_OBJECT is masked',
    test: REQUESTS,
  },
  SET_DEVICE_STATE_FD: {
    treatment: 'refuse',
    reply: 'u64, 1 fd',
    note: 'DEVICE_STATE is masked',
    test: REQUESTS,
  },
  CHECK_DEVICE_STATE: {
    treatment: 'refuse',
    reply: 'u64',
    note: 'DEVICE_STATE is masked',
    test: REQUESTS,
  },
  GET_SHMEM_CONFIG: {
    treatment: 'refuse',
    reply: 'configuration',
    note: 'SHMEM is masked',
    test: REQUESTS,
  },
};

const discarded = {
  treatment: 'refuse',
  reply: 'ack',
  note: 'discarded: BACKEND_REQ is masked, so no frontend can open the channel',
  test: DISCARDED,
} as const satisfies MessagePolicy;

/** Requests of the guest's backend: messages on txq without REPLY. */
export const BACKEND_POLICY: Readonly<Record<BackendMessageName, MessagePolicy>> = {
  IOTLB_MSG: discarded,
  CONFIG_CHANGE_MSG: discarded,
  VRING_HOST_NOTIFIER_MSG: discarded,
  VRING_CALL: discarded,
  VRING_ERR: discarded,
  SHARED_OBJECT_ADD: discarded,
  SHARED_OBJECT_REMOVE: discarded,
  SHARED_OBJECT_LOOKUP: { ...discarded, reply: 'u64, 1 fd' },
  SHMEM_MAP: discarded,
  SHMEM_UNMAP: discarded,
};
