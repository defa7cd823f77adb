/**
 * "Inflight I/O tracking": one region per queue, one after the other, each aligned as all known
 * backends align it. Offsets are those of the specification's C structures.
 */

import type { Inflight } from './payloads/misc.js';

/** GET_INFLIGHT_FD's answer to a frontend that has to do without: it goes on without tracking. */
export const NO_INFLIGHT: Inflight = { mmapSize: 0n, mmapOffset: 0n, numQueues: 0, queueSize: 0 };

/** The only version there is; 0 is a region that nobody has set up. */
export const INFLIGHT_VERSION = 1;
/** Each queue's region takes a multiple of this (libvhost-user and DPDK alike). */
export const INFLIGHT_ALIGNMENT = 64;

/** struct QueueRegionSplit. */
export const INFLIGHT_SPLIT_VERSION = 8;
export const INFLIGHT_SPLIT_DESC_NUM = 10;
export const INFLIGHT_SPLIT_LAST_BATCH_HEAD = 12;
export const INFLIGHT_SPLIT_USED_IDX = 14;
export const INFLIGHT_SPLIT_DESC = 16;

/** struct DescStateSplit. */
export const INFLIGHT_DESC_SPLIT_SIZE = 16;
export const INFLIGHT_DESC_SPLIT_INFLIGHT = 0;
export const INFLIGHT_DESC_SPLIT_NEXT = 6;
export const INFLIGHT_DESC_SPLIT_COUNTER = 8;

/** struct QueueRegionPacked and struct DescStatePacked, each with its padding. */
const PACKED_HEADER_SIZE = 32;
const DESC_PACKED_SIZE = 32;

function aligned(bytes: number): number {
  return Math.ceil(bytes / INFLIGHT_ALIGNMENT) * INFLIGHT_ALIGNMENT;
}

/** Bytes of the region of one split queue. */
export function splitRegionSize(queueSize: number): number {
  return aligned(INFLIGHT_SPLIT_DESC + queueSize * INFLIGHT_DESC_SPLIT_SIZE);
}

/** Bytes that hold the regions of so many queues, whichever layout they have. */
export function inflightCapacity(numQueues: number, queueSize: number): number {
  return numQueues * aligned(PACKED_HEADER_SIZE + queueSize * DESC_PACKED_SIZE);
}

/** Bytes without which a region cannot hold the states of all descriptors. */
export function inflightMinimum(numQueues: number, queueSize: number): number {
  return numQueues * (INFLIGHT_SPLIT_DESC + queueSize * INFLIGHT_DESC_SPLIT_SIZE);
}
