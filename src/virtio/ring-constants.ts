/**
 * Constants of split virtqueues (virtio 1.3 §2.7), with the specification's names, and the layout
 * arithmetic that the device's side and the driver's side share.
 */
import { VvuError } from '../errors.js';
import type { Iova, QueueConfig } from './ports.js';

/** The buffer continues in the descriptor named by `next` (§2.7.5). */
export const VIRTQ_DESC_F_NEXT = 1;
/** Device write-only, otherwise device read-only. */
export const VIRTQ_DESC_F_WRITE = 2;
/** The buffer is a table of descriptors (§2.7.5.3). */
export const VIRTQ_DESC_F_INDIRECT = 4;

/** §2.7.6: the driver does not want used-buffer notifications. */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
/** §2.7.8: the device does not want available-buffer notifications. */
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/** Feature bits as masks (§6). */
export const VIRTIO_F_INDIRECT_DESC = 1n << 28n;
export const VIRTIO_F_EVENT_IDX = 1n << 29n;

/** Largest queue size (§2.7). */
export const VIRTQUEUE_MAX_SIZE = 32_768;
/** Bytes of one struct virtq_desc. */
export const DESCRIPTOR_BYTES = 16;
/** Bytes of one struct virtq_used_elem. */
export const USED_ELEMENT_BYTES = 8;
/** Offset of `ring` in struct virtq_avail and struct virtq_used: after le16 flags and le16 idx. */
export const RING_OFFSET = 4;
/** Offset of `idx` in both rings. */
export const INDEX_OFFSET = 2;

/** Alignment that each part needs (§2.7). */
const DESCRIPTOR_ALIGN = 16;
const AVAIL_ALIGN = 2;
const USED_ALIGN = 4;

/** Offset of `used_event` in struct virtq_avail. */
export function usedEventOffset(size: number): number {
  return RING_OFFSET + 2 * size;
}

/** Offset of `avail_event` in struct virtq_used. */
export function availEventOffset(size: number): number {
  return RING_OFFSET + USED_ELEMENT_BYTES * size;
}

export function descriptorAreaBytes(size: number): number {
  return DESCRIPTOR_BYTES * size;
}

/** Bytes of the available ring, `used_event` included. */
export function driverAreaBytes(size: number): number {
  return usedEventOffset(size) + 2;
}

/** Bytes of the used ring, `avail_event` included. */
export function deviceAreaBytes(size: number): number {
  return availEventOffset(size) + 2;
}

/**
 * §2.7.7.1 and §2.7.10: with event indices, a notification is due when the index that the other
 * side waits for lies in the range that was just published. All values are 16-bit and wrap.
 */
export function needsEvent(event: number, current: number, previous: number): boolean {
  return ((current - event - 1) & 0xffff) < ((current - previous) & 0xffff);
}

export function isQueueSize(size: number): boolean {
  return (
    Number.isInteger(size) && size >= 1 && size <= VIRTQUEUE_MAX_SIZE && (size & (size - 1)) === 0
  );
}

/**
 * Checks what a driver configured.
 * @throws VvuError `QUEUE_SIZE`, `QUEUE_ALIGNMENT` or `QUEUE_RANGE`, scope `device`
 */
export function checkQueueConfig(queue: QueueConfig): void {
  if (!isQueueSize(queue.size)) {
    throw new VvuError('QUEUE_SIZE', 'device', `queue ${queue.index}: size ${queue.size}`);
  }
  checkArea(queue, queue.descriptorArea, descriptorAreaBytes(queue.size), DESCRIPTOR_ALIGN);
  checkArea(queue, queue.driverArea, driverAreaBytes(queue.size), AVAIL_ALIGN);
  checkArea(queue, queue.deviceArea, deviceAreaBytes(queue.size), USED_ALIGN);
}

function checkArea(queue: QueueConfig, address: Iova, bytes: number, align: number): void {
  if (!Number.isSafeInteger(address) || address < 0 || !Number.isSafeInteger(address + bytes)) {
    throw new VvuError('QUEUE_RANGE', 'device', `queue ${queue.index}: area at ${address}`);
  }
  if (address % align !== 0) {
    throw new VvuError(
      'QUEUE_ALIGNMENT',
      'device',
      `queue ${queue.index}: area at 0x${address.toString(16)} is not ${align}-byte aligned`,
    );
  }
}
