/** What runs inside the appliance VM: the driver, and a vhost-user backend on it. */
export { VhostUserBackend, type BackendOptions } from './backend.js';
export type { BackendConfig, BackendDevice, BackendQueue } from './backend-device.js';
export { VvuDriver, type Doorbell, type DriverEvents, type DriverOptions } from './driver.js';
export { FrontendMemory } from './frontend-memory.js';
export type { DmaBuffer, InterruptHandle, PciAccess, WindowAccess } from './pci-access.js';
export { VfioUserPciAccess, type VfioUserAccessOptions } from './vfio-user-access.js';
export { PollLoop } from './poll-loop.js';
export type { Pollable } from './poll-loop.js';
export { readChain, writeChain } from '../virtio/split-queue.js';
export type { Chain, Segment } from '../virtio/split-queue.js';
