import * as c from './constants.js';
import type { PayloadCodec } from './codec.js';
import {
  describeMessage,
  type MessageDescriptor,
  type MessageNeeds,
  type RequestOf,
  type RowOptions,
} from './descriptor.js';
import { configSpace, shmemConfig } from './payloads/config.js';
import { memoryRegion, memoryTable, removedMemoryRegion } from './payloads/memory.js';
import * as misc from './payloads/misc.js';
import { deviceStatus, empty, mtu, opaque, orEmpty, u64 } from './payloads/simple.js';
import {
  vringAddress,
  vringArea,
  vringFd,
  vringState,
  vringSwitch,
  type VringFd,
} from './payloads/vring.js';

/** A front-end request that is at most acknowledged. */
function set<Q>(
  id: number,
  name: string,
  request: PayloadCodec<Q>,
  options: RowOptions<NoInfer<Q>, bigint> = {},
) {
  return describeMessage('frontend', id, name, { request, replyPayload: u64 }, options);
}

/** A front-end request with a reply of its own. */
function get<Q, R>(
  id: number,
  name: string,
  request: PayloadCodec<Q>,
  replyPayload: PayloadCodec<R>,
  options: RowOptions<NoInfer<Q>, NoInfer<R>> = {},
) {
  const payloads = { request, replyPayload };
  return describeMessage('frontend', id, name, payloads, { reply: 'always', ...options });
}

/** A back-end request; the two with data in the reply use u64 for it. */
function back<Q>(
  id: number,
  name: string,
  request: PayloadCodec<Q>,
  options: RowOptions<NoInfer<Q>, bigint> = {},
) {
  return describeMessage('backend', id, name, { request, replyPayload: u64 }, options);
}

function feature(protocolFeature: number): MessageNeeds {
  return { protocolFeature };
}

const protocolFeatures: MessageNeeds = { offered: c.VHOST_USER_F_PROTOCOL_FEATURES };
const one = { min: 1, max: 1 };
const index = (request: { readonly index: number }): number => request.index;
/** SET_VRING_KICK, CALL, ERR: an fd exactly when the invalid-FD flag is clear. */
const notifier = {
  fds: { min: 0, max: 1 },
  fdCount: ({ noFd }: VringFd): number => (noFd ? 0 : 1),
  vring: index,
};

/**
 * Front-end message types, by the specification's names. A message that a later revision adds is
 * one more row here, and a byte vector in the tests.
 */
export const frontendMessages = {
  GET_FEATURES: get(c.VHOST_USER_GET_FEATURES, 'GET_FEATURES', empty, u64, { action: 'features' }),
  SET_FEATURES: set(c.VHOST_USER_SET_FEATURES, 'SET_FEATURES', u64, { action: 'features' }),
  SET_OWNER: set(c.VHOST_USER_SET_OWNER, 'SET_OWNER', empty),
  RESET_OWNER: set(c.VHOST_USER_RESET_OWNER, 'RESET_OWNER', empty),
  /** Its reply with payload exists during postcopy only, which needs PAGEFAULT. */
  SET_MEM_TABLE: set(c.VHOST_USER_SET_MEM_TABLE, 'SET_MEM_TABLE', memoryTable, {
    fds: { min: 1, max: c.VHOST_MEMORY_BASELINE_NREGIONS },
    fdCount: (regions) => regions.length,
    action: 'memory',
  }),
  /** With LOG_SHMFD only, since a bare address means nothing to another process. */
  SET_LOG_BASE: get(c.VHOST_USER_SET_LOG_BASE, 'SET_LOG_BASE', misc.logBase, u64, {
    reply: 'with-fd',
    fds: one,
    needs: feature(c.VHOST_USER_PROTOCOL_F_LOG_SHMFD),
    action: 'log-base',
  }),
  SET_LOG_FD: set(c.VHOST_USER_SET_LOG_FD, 'SET_LOG_FD', empty, { fds: one, action: 'log-fd' }),
  SET_VRING_NUM: set(c.VHOST_USER_SET_VRING_NUM, 'SET_VRING_NUM', vringState, { vring: index }),
  SET_VRING_ADDR: set(c.VHOST_USER_SET_VRING_ADDR, 'SET_VRING_ADDR', vringAddress, {
    vring: index,
  }),
  SET_VRING_BASE: set(c.VHOST_USER_SET_VRING_BASE, 'SET_VRING_BASE', vringState, { vring: index }),
  GET_VRING_BASE: get(c.VHOST_USER_GET_VRING_BASE, 'GET_VRING_BASE', vringState, vringState, {
    vring: index,
  }),
  SET_VRING_KICK: set(c.VHOST_USER_SET_VRING_KICK, 'SET_VRING_KICK', vringFd, {
    ...notifier,
    action: 'kick',
  }),
  SET_VRING_CALL: set(c.VHOST_USER_SET_VRING_CALL, 'SET_VRING_CALL', vringFd, {
    ...notifier,
    action: 'call',
  }),
  SET_VRING_ERR: set(c.VHOST_USER_SET_VRING_ERR, 'SET_VRING_ERR', vringFd, {
    ...notifier,
    action: 'err',
  }),
  GET_PROTOCOL_FEATURES: get(
    c.VHOST_USER_GET_PROTOCOL_FEATURES,
    'GET_PROTOCOL_FEATURES',
    empty,
    u64,
    { needs: protocolFeatures, action: 'protocol-features' },
  ),
  SET_PROTOCOL_FEATURES: set(c.VHOST_USER_SET_PROTOCOL_FEATURES, 'SET_PROTOCOL_FEATURES', u64, {
    needs: protocolFeatures,
    action: 'protocol-features',
  }),
  GET_QUEUE_NUM: get(c.VHOST_USER_GET_QUEUE_NUM, 'GET_QUEUE_NUM', empty, u64, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_MQ),
    action: 'cap',
  }),
  SET_VRING_ENABLE: set(c.VHOST_USER_SET_VRING_ENABLE, 'SET_VRING_ENABLE', vringSwitch, {
    needs: protocolFeatures,
    vring: index,
  }),
  SEND_RARP: set(c.VHOST_USER_SEND_RARP, 'SEND_RARP', misc.macAddress, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_RARP),
  }),
  NET_SET_MTU: set(c.VHOST_USER_NET_SET_MTU, 'NET_SET_MTU', mtu, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_NET_MTU),
  }),
  SET_BACKEND_REQ_FD: set(c.VHOST_USER_SET_BACKEND_REQ_FD, 'SET_BACKEND_REQ_FD', empty, {
    fds: one,
    needs: feature(c.VHOST_USER_PROTOCOL_F_BACKEND_REQ),
    action: 'backend-channel',
  }),
  /** "The back-end has to acknowledge the request": without REPLY_ACK as well. */
  IOTLB_MSG: get(c.VHOST_USER_IOTLB_MSG, 'IOTLB_MSG', misc.iotlb, u64, {
    needs: { accepted: c.VIRTIO_F_IOMMU_PLATFORM },
    failure: () => 1n,
  }),
  SET_VRING_ENDIAN: set(c.VHOST_USER_SET_VRING_ENDIAN, 'SET_VRING_ENDIAN', vringSwitch, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_CROSS_ENDIAN),
    vring: index,
  }),
  /** "The back-end uses zero length of payload to indicate an error". */
  GET_CONFIG: get(c.VHOST_USER_GET_CONFIG, 'GET_CONFIG', configSpace, orEmpty(configSpace), {
    needs: feature(c.VHOST_USER_PROTOCOL_F_CONFIG),
    failure: () => undefined,
  }),
  SET_CONFIG: set(c.VHOST_USER_SET_CONFIG, 'SET_CONFIG', configSpace, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_CONFIG),
  }),
  CREATE_CRYPTO_SESSION: get(
    c.VHOST_USER_CREATE_CRYPTO_SESSION,
    'CREATE_CRYPTO_SESSION',
    misc.cryptoSession,
    misc.cryptoSession,
    { needs: feature(c.VHOST_USER_PROTOCOL_F_CRYPTO_SESSION) },
  ),
  CLOSE_CRYPTO_SESSION: set(c.VHOST_USER_CLOSE_CRYPTO_SESSION, 'CLOSE_CRYPTO_SESSION', u64, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_CRYPTO_SESSION),
  }),
  POSTCOPY_ADVISE: get(c.VHOST_USER_POSTCOPY_ADVISE, 'POSTCOPY_ADVISE', empty, empty, {
    replyFds: 1,
    needs: feature(c.VHOST_USER_PROTOCOL_F_PAGEFAULT),
    action: 'unservable',
  }),
  POSTCOPY_LISTEN: set(c.VHOST_USER_POSTCOPY_LISTEN, 'POSTCOPY_LISTEN', empty, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_PAGEFAULT),
    action: 'unservable',
  }),
  POSTCOPY_END: get(c.VHOST_USER_POSTCOPY_END, 'POSTCOPY_END', empty, u64, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_PAGEFAULT),
    action: 'unservable',
  }),
  GET_INFLIGHT_FD: get(
    c.VHOST_USER_GET_INFLIGHT_FD,
    'GET_INFLIGHT_FD',
    misc.inflight,
    misc.inflight,
    { replyFds: 1, needs: feature(c.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD), action: 'inflight' },
  ),
  SET_INFLIGHT_FD: set(c.VHOST_USER_SET_INFLIGHT_FD, 'SET_INFLIGHT_FD', misc.inflight, {
    fds: one,
    needs: feature(c.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD),
    action: 'inflight',
  }),
  GPU_SET_SOCKET: set(c.VHOST_USER_GPU_SET_SOCKET, 'GPU_SET_SOCKET', empty, {
    fds: one,
    action: 'unservable',
  }),
  RESET_DEVICE: set(c.VHOST_USER_RESET_DEVICE, 'RESET_DEVICE', empty, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_RESET_DEVICE),
  }),
  VRING_KICK: set(c.VHOST_USER_VRING_KICK, 'VRING_KICK', vringState, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS),
    vring: index,
  }),
  GET_MAX_MEM_SLOTS: get(c.VHOST_USER_GET_MAX_MEM_SLOTS, 'GET_MAX_MEM_SLOTS', empty, u64, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS),
    action: 'cap',
  }),
  ADD_MEM_REG: set(c.VHOST_USER_ADD_MEM_REG, 'ADD_MEM_REG', memoryRegion, {
    fds: one,
    needs: feature(c.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS),
    action: 'memory',
  }),
  REM_MEM_REG: set(c.VHOST_USER_REM_MEM_REG, 'REM_MEM_REG', removedMemoryRegion, {
    fds: { min: 0, max: 1 },
    needs: feature(c.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS),
    action: 'memory',
  }),
  SET_STATUS: set(c.VHOST_USER_SET_STATUS, 'SET_STATUS', deviceStatus, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_STATUS),
  }),
  GET_STATUS: get(c.VHOST_USER_GET_STATUS, 'GET_STATUS', empty, deviceStatus, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_STATUS),
  }),
  GET_SHARED_OBJECT: get(
    c.VHOST_USER_GET_SHARED_OBJECT,
    'GET_SHARED_OBJECT',
    misc.sharedObject,
    orEmpty(misc.sharedObject),
    {
      replyFds: 1,
      needs: feature(c.VHOST_USER_PROTOCOL_F_SHARED_OBJECT),
      action: 'unservable',
      failure: () => undefined,
    },
  ),
  SET_DEVICE_STATE_FD: get(
    c.VHOST_USER_SET_DEVICE_STATE_FD,
    'SET_DEVICE_STATE_FD',
    misc.deviceState,
    u64,
    {
      fds: one,
      replyFds: 1,
      needs: feature(c.VHOST_USER_PROTOCOL_F_DEVICE_STATE),
      action: 'transfer',
    },
  ),
  CHECK_DEVICE_STATE: get(c.VHOST_USER_CHECK_DEVICE_STATE, 'CHECK_DEVICE_STATE', empty, u64, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_DEVICE_STATE),
    action: 'transfer',
  }),
  GET_SHMEM_CONFIG: get(c.VHOST_USER_GET_SHMEM_CONFIG, 'GET_SHMEM_CONFIG', empty, shmemConfig, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_SHMEM),
  }),
} as const;

/** Back-end message types, sent on the channel of SET_BACKEND_REQ_FD. */
export const backendMessages = {
  IOTLB_MSG: back(c.VHOST_USER_BACKEND_IOTLB_MSG, 'BACKEND_IOTLB_MSG', misc.iotlb, {
    needs: { accepted: c.VIRTIO_F_IOMMU_PLATFORM },
  }),
  CONFIG_CHANGE_MSG: back(
    c.VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
    'BACKEND_CONFIG_CHANGE_MSG',
    empty,
    { needs: feature(c.VHOST_USER_PROTOCOL_F_CONFIG) },
  ),
  VRING_HOST_NOTIFIER_MSG: back(
    c.VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG,
    'BACKEND_VRING_HOST_NOTIFIER_MSG',
    vringArea,
    {
      fds: { min: 0, max: 1 },
      needs: feature(c.VHOST_USER_PROTOCOL_F_HOST_NOTIFIER),
      action: 'unservable',
    },
  ),
  VRING_CALL: back(c.VHOST_USER_BACKEND_VRING_CALL, 'BACKEND_VRING_CALL', vringState, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS),
    vring: index,
  }),
  VRING_ERR: back(c.VHOST_USER_BACKEND_VRING_ERR, 'BACKEND_VRING_ERR', vringState, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS),
    vring: index,
  }),
  SHARED_OBJECT_ADD: back(
    c.VHOST_USER_BACKEND_SHARED_OBJECT_ADD,
    'BACKEND_SHARED_OBJECT_ADD',
    misc.sharedObject,
    { needs: feature(c.VHOST_USER_PROTOCOL_F_SHARED_OBJECT) },
  ),
  SHARED_OBJECT_REMOVE: back(
    c.VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE,
    'BACKEND_SHARED_OBJECT_REMOVE',
    misc.sharedObject,
    { needs: feature(c.VHOST_USER_PROTOCOL_F_SHARED_OBJECT) },
  ),
  SHARED_OBJECT_LOOKUP: back(
    c.VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP,
    'BACKEND_SHARED_OBJECT_LOOKUP',
    misc.sharedObject,
    {
      reply: 'always',
      replyFds: 1,
      needs: feature(c.VHOST_USER_PROTOCOL_F_SHARED_OBJECT),
      action: 'unservable',
      failure: () => 1n,
    },
  ),
  SHMEM_MAP: back(c.VHOST_USER_BACKEND_SHMEM_MAP, 'BACKEND_SHMEM_MAP', misc.shmemMap, {
    fds: one,
    needs: feature(c.VHOST_USER_PROTOCOL_F_SHMEM),
    action: 'share-memory',
  }),
  SHMEM_UNMAP: back(c.VHOST_USER_BACKEND_SHMEM_UNMAP, 'BACKEND_SHMEM_UNMAP', misc.shmemMap, {
    needs: feature(c.VHOST_USER_PROTOCOL_F_SHMEM),
  }),
} as const;

/** Longest payload of a request that is not in the tables. */
export const MAX_UNKNOWN_PAYLOAD = 1012;

/**
 * A request of a later revision: bytes, with a reply of bytes. Fds cannot be told apart, so it has
 * none.
 */
export function unknownMessage(sender: 'frontend' | 'backend', id: number): MessageDescriptor {
  const request = opaque('unknown request', 0, MAX_UNKNOWN_PAYLOAD);
  const replyPayload = opaque('reply to an unknown request', 0, MAX_UNKNOWN_PAYLOAD);
  return describeMessage(sender, id, `request ${id}`, { request, replyPayload }, {});
}

export type FrontendMessageName = keyof typeof frontendMessages;
export type BackendMessageName = keyof typeof backendMessages;

/** A decoded front-end request; `name` tells the type of `value`. */
export type FrontendRequest = {
  readonly [N in FrontendMessageName]: {
    readonly name: N;
    readonly value: RequestOf<(typeof frontendMessages)[N]>;
  };
}[FrontendMessageName];

function byId(table: Readonly<Record<string, MessageDescriptor>>): Map<number, MessageDescriptor> {
  return new Map(Object.values(table).map((descriptor) => [descriptor.id, descriptor]));
}

const frontendById = byId(frontendMessages);
const backendById = byId(backendMessages);

/** The descriptor of a front-end request number, if there is such a request. */
export function frontendMessage(id: number): MessageDescriptor | undefined {
  return frontendById.get(id);
}

/** The descriptor of a back-end request number, if there is such a request. */
export function backendMessage(id: number): MessageDescriptor | undefined {
  return backendById.get(id);
}
