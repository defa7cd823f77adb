/** What runs inside the appliance VM: PCI access, the driver, a backend on it, and the bridge. */
export { VhostUserBackend, type BackendOptions } from './backend.js';
export {
  BackendRequests,
  type BackendRequestsPorts,
  type RequestOptions,
} from './backend-requests.js';
export type { BackendConfig, BackendDevice, BackendQueue } from './backend-device.js';
export { VhostUserBridge, type BridgeOptions } from './bridge.js';
export { BackendEndpoint, type BackendEndpointOptions } from './bridge/backend-endpoint.js';
export { BridgeService, type BridgeServiceOptions } from './bridge/service.js';
export { VvuDriver, type Doorbell, type DriverEvents, type DriverOptions } from './driver.js';
export type { DoorbellRegister } from './notifications.js';
export { DirtyLog, type LogPlace } from './dirty-log.js';
export { InflightArea, InflightQueue } from './inflight.js';
export { FrontendMemory } from './frontend-memory.js';
export { openDevice, parseDeviceSpec, type DeviceSpec, type OpenOptions } from './open-device.js';
export type {
  Binding,
  DmaBuffer,
  InterruptHandle,
  IntxInterrupt,
  PciAccess,
  WindowAccess,
  WindowFile,
} from './pci-access.js';
export { VfioUserPciAccess, type VfioUserAccessOptions } from './vfio-user-access.js';
export { PollLoop } from './poll-loop.js';
export type { Pollable } from './poll-loop.js';
export { readChain, writeChain } from '../virtio/split-queue.js';
export type {
  Chain,
  InflightTracker,
  QueuePosition,
  Segment,
  SplitQueue,
} from '../virtio/split-queue.js';
export type { Clock } from '../clock.js';
export type { GuestMemory, Iova, QueueConfig } from '../virtio/ports.js';
export { USER_DRIVERS, bindDriver, type UserDriver } from './bind.js';
export { SysfsFunction, type PciResource, type SystemPaths } from './sysfs-function.js';
export type { WindowCaching } from './sysfs-bars.js';
export { SysfsPciAccess, type SysfsAccessOptions } from './sysfs-access.js';
export { VfioPciAccess, type VfioAccessOptions } from './vfio-access.js';
export type { UioInterrupt } from './uio-interrupt.js';
