/**
 * The vfio-user protocol in pure TypeScript, over an injected transport of bytes and file
 * descriptors: constants, message descriptors, parser, server and client.
 */
export * from './connection.js';
export * from './device.js';
export * from './errno.js';
export * from './errors.js';
export * from './limits.js';
export * from './options.js';
export * from './server.js';
export * from './client.js';
export type * from './transport.js';
