/** virtio-vhost-user devices for hypervisors in the same process. */
export { createVirtioVhostUserDevice } from './create.js';
export { VirtioVhostUserFunction } from './function.js';
export type * from './options.js';
export type { TunnelRules, UnknownRequests } from '../../tunnel/index.js';
