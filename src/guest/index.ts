/** What runs inside the appliance: a driver, and the backend side of vhost-user on top of it. */
export { VhostUserBackend } from './backend.js';
export type { BackendOptions } from './backend.js';
export type { BackendConfig, BackendDevice, BackendQueue } from './backend-device.js';
export { VvuDriver } from './driver.js';
export type { Doorbell, DriverEvents, DriverOptions } from './driver.js';
export type { DmaBuffer, InterruptHandle, PciAccess, WindowAccess } from './pci-access.js';
export { VfioUserPciAccess } from './vfio-user-access.js';
export type { VfioUserAccessOptions } from './vfio-user-access.js';
