/** virtio-vhost-user devices in a process of their own, attached by vfio-user clients. */
export { VfioUserDeviceHost, createVfioUserDevice } from './host.js';
export type { VfioUserDeviceOptions, WindowOptions } from './options.js';
export { LAYOUTS } from '../layout.js';
export type { Layout, LayoutPlan } from '../layout.js';
export type { Placement } from '../../pci/index.js';
