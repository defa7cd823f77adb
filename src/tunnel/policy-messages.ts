import type { BackendMessageName, FrontendMessageName } from '../vhost-user/index.js';
import type { MessagePolicy, Treatment } from './policy.js';
import * as test from './policy-tests.js';

type Row = (reply: string, test: string, note?: string) => MessagePolicy;

/** Rows of one treatment: the reply, the test's title, and details. */
function rows(treatment: Treatment): Row {
  return (reply, title, note = '') => ({ treatment, reply, test: title, note });
}

const pass = rows('pass');
const handle = rows('handle');
const provide = rows('provide');
const mask = rows('mask');
const refuse = rows('refuse');

/** Requests of a frontend. */
export const FRONTEND_POLICY: Readonly<Record<FrontendMessageName, MessagePolicy>> = {
  GET_FEATURES: pass('u64', test.START),
  SET_FEATURES: pass('ack', test.BEFORE, 'only bits that were offered on this connection'),
  SET_OWNER: pass('ack', test.OWNER, 'the first one; a repeated one is acknowledged'),
  RESET_OWNER: pass('ack', test.OWNER),
  SET_MEM_TABLE: handle('ack', test.START, 'one fd per region; the table is rewritten'),
  SET_LOG_BASE: handle(
    'u64 or ack',
    test.LOG_BASE,
    'the log is shown behind the regions; mmap_offset becomes its place',
  ),
  SET_LOG_FD: handle('ack', test.LOG_FD, 'the log doorbell'),
  SET_VRING_NUM: pass('ack', test.RING),
  SET_VRING_ADDR: pass('ack', test.ADDRESSES),
  SET_VRING_BASE: pass('ack', test.RING),
  GET_VRING_BASE: pass('vring state', test.START),
  SET_VRING_KICK: handle('ack', test.START, "the vring's vector; the no-fd flag (bit 8) passes"),
  SET_VRING_CALL: handle('ack', test.START, "the vring's call doorbell"),
  SET_VRING_ERR: handle('ack', test.START, "the vring's err doorbell"),
  GET_PROTOCOL_FEATURES: mask('u64', test.START, 'the allow list'),
  SET_PROTOCOL_FEATURES: pass('ack', test.BEFORE, 'only bits that were offered on this connection'),
  GET_QUEUE_NUM: handle('u64', test.PAIRS, 'limited to max_vhost_queues'),
  SET_VRING_ENABLE: pass('ack', test.ENABLE),
  SEND_RARP: pass('ack', test.RARP),
  NET_SET_MTU: pass('ack', test.MTU),
  SET_BACKEND_REQ_FD: handle(
    'ack',
    test.CHANNEL,
    'the device holds the socket, and the guest gets the message without it',
  ),
  IOTLB_MSG: pass('u64', test.IOTLB, 'UPDATE and INVALIDATE; NEED_REPLY is set for the guest'),
  SET_VRING_ENDIAN: pass('ack', test.ENDIAN),
  GET_CONFIG: pass('config space, or empty', test.CONFIG),
  SET_CONFIG: pass('ack', test.CONFIG),
  CREATE_CRYPTO_SESSION: pass('crypto session', test.CRYPTO, 'as bytes'),
  CLOSE_CRYPTO_SESSION: pass('ack', test.CRYPTO),
  POSTCOPY_ADVISE: refuse('empty, 1 fd', test.POSTCOPY, 'PAGEFAULT is masked'),
  POSTCOPY_LISTEN: refuse('ack', test.POSTCOPY, 'PAGEFAULT is masked'),
  POSTCOPY_END: refuse('u64', test.POSTCOPY, 'PAGEFAULT is masked'),
  GET_INFLIGHT_FD: provide(
    'inflight description, 1 fd',
    test.GET_INFLIGHT,
    'the guest gets size and place of a buffer; the fd is a memfd of the device',
  ),
  SET_INFLIGHT_FD: handle(
    'ack',
    test.SET_INFLIGHT,
    "the buffer is shown at the window's end; mmap_offset becomes its place",
  ),
  GPU_SET_SOCKET: refuse('ack', test.NO_FDS, 'a guest cannot have the socket'),
  RESET_DEVICE: pass('ack', test.RESET),
  VRING_KICK: pass(
    'ack',
    test.INBAND,
    'the guest has to look for it in rxq; no vector fires for the vring',
  ),
  GET_MAX_MEM_SLOTS: handle('u64', test.SLOTS, 'limited to 64'),
  ADD_MEM_REG: handle(
    'ack',
    test.REPEATED,
    'mmap_offset becomes the place; an identical region is counted',
  ),
  REM_MEM_REG: handle(
    'ack',
    test.REPEATED,
    'the last one of a region; an fd that comes with it is closed',
  ),
  SET_STATUS: pass('ack', test.STATUS),
  GET_STATUS: pass('u64', test.STATUS),
  GET_SHARED_OBJECT: refuse('UUID or empty, 1 fd', test.NO_FDS, 'SHARED_OBJECT is masked'),
  SET_DEVICE_STATE_FD: refuse('u64, 1 fd', test.REQUESTS, 'DEVICE_STATE is masked'),
  CHECK_DEVICE_STATE: refuse('u64', test.REQUESTS, 'DEVICE_STATE is masked'),
  GET_SHMEM_CONFIG: pass('configuration', test.SHMEM),
};

/** Requests of the guest's backend: messages on txq without REPLY. */
export const BACKEND_POLICY: Readonly<Record<BackendMessageName, MessagePolicy>> = {
  IOTLB_MSG: pass('ack', test.MISS, 'MISS and ACCESS_FAIL'),
  CONFIG_CHANGE_MSG: pass('ack', test.CHANNEL),
  VRING_HOST_NOTIFIER_MSG: refuse('ack', test.UNSERVED, 'HOST_NOTIFIER is masked'),
  VRING_CALL: pass('ack', test.INBAND),
  VRING_ERR: pass('ack', test.INBAND),
  SHARED_OBJECT_ADD: refuse('ack', test.UNSERVED, 'SHARED_OBJECT is masked'),
  SHARED_OBJECT_REMOVE: refuse('ack', test.UNSERVED, 'SHARED_OBJECT is masked'),
  SHARED_OBJECT_LOOKUP: refuse(
    'u64, 1 fd',
    test.UNSERVED,
    'SHARED_OBJECT is masked, and a guest cannot take the fd',
  ),
  SHMEM_MAP: provide(
    'ack',
    test.SHMEM,
    'fd_offset is an address of the guest: the device adds the fd and the offset in its file',
  ),
  SHMEM_UNMAP: pass('ack', test.SHMEM),
};
