/** The virtio-vhost-user device on ports. */
export { VhostUserDevice } from './device.js';
export type { DeviceEvents, DeviceOptions } from './device.js';
export {
  DEFAULT_MAX_VHOST_QUEUES,
  MAX_VHOST_QUEUES,
  VIRTIO_ID_VHOST_USER,
  VIRTIO_VHOST_USER_STATUS_MASTER_UP,
  VIRTIO_VHOST_USER_STATUS_SLAVE_UP,
} from './constants.js';
export { formatUuid, parseUuid } from './identity.js';
export type { LinkState } from './link.js';
export type * from '../tunnel/ports.js';
export type {
  DriverPort,
  GuestMemory,
  QueueConfig,
  RegisterBlock,
  VirtioDevice,
} from '../virtio/ports.js';
export { NO_VECTOR } from './ports.js';
export type {
  Binding,
  DeviceHost,
  GuestMemoryFiles,
  DoorbellHost,
  KickHost,
  ShownWindowRegion,
  WindowHost,
  WindowKind,
  WindowPlacement,
  WindowRegion,
  WindowRegionRole,
} from './ports.js';
