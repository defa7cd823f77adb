/**
 * The vfio-user protocol in pure TypeScript, over an injected transport of bytes and file
 * descriptors: constants, message descriptors, parser, server and client.
 */
export * from './client.js';
export type * from './client-types.js';
export type * from './codec/codec.js';
export type * from './codec/device-info.js';
export type * from './codec/dma.js';
export type * from './codec/feature.js';
export type * from './codec/io-fds.js';
export type * from './codec/irq.js';
export type * from './codec/region-access.js';
export type * from './codec/region-info.js';
export type * from './codec/region-remap.js';
export type * from './codec/version.js';
export * from './connection.js';
export * from './constants.js';
export * from './device.js';
export * from './errno.js';
export * from './errors.js';
export * from './fake-fds.js';
export * from './format.js';
export * from './header.js';
export * from './interval-table.js';
export * from './irq-table.js';
export * from './limits.js';
export * from './memory-transport.js';
export * from './messages.js';
export * from './options.js';
export * from './parser.js';
export { applyRemap, type RemappedArea } from './remap.js';
export type { Answer } from './requester.js';
export * from './server.js';
export type * from './transport.js';
