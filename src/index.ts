/**
 * virtio-vhost-user: a virtual machine serves virtio devices to other virtual machines.
 *
 * - `virtio-vhost-user/vfio-user`: devices in a process of their own, for stock QEMU;
 * - `virtio-vhost-user/in-process`: devices for a hypervisor in this process;
 * - `virtio-vhost-user/guest`: the driver and the backend side;
 * - `virtio-vhost-user/device`: the device itself, on ports;
 * - `virtio-vhost-user/vhost-user`: the wire protocol.
 */
export { VvuError, errorCode, errorMessage } from './errors.js';
export type { ErrorScope } from './errors.js';
export * from './hosts/in-process/index.js';
export { VfioUserDeviceHost, createVfioUserDevice } from './hosts/vfio-user/index.js';
export type {
  LayoutPlan,
  Placement,
  VfioUserDeviceOptions,
  WindowOptions,
} from './hosts/vfio-user/index.js';
export { silentLogger } from './log.js';
export type { Logger } from './log.js';
export { native } from './native.js';
export type * from './native.js';
export { NativeTransport, type NativeTransportOptions } from './native-transport.js';
