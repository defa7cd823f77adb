import { RegisterFile, reserved, type Field } from './registers.js';

/** notify_off_multiplier: queue i is notified at byte 4 * i of the structure. */
export const NOTIFY_OFF_MULTIPLIER = 4;

/**
 * The notification structure (virtio 1.3 §4.1.4.4): a le16 for each queue, and padding so that a
 * 32-bit write is as good as the 16-bit write of the specification.
 *
 * The place of the write names the queue, its value does not matter: without
 * VIRTIO_F_NOTIFICATION_DATA a driver writes the index of just this queue.
 */
export function notifyRegisters(queueCount: number, kick: (index: number) => void): RegisterFile {
  const fields: Field[] = [];
  for (let index = 0; index < queueCount; index++) {
    fields.push({
      name: `queue_notify_${index}`,
      width: 2,
      strobe: 0xffff,
      write: () => kick(index),
    });
    fields.push(reserved(2));
  }
  return new RegisterFile('virtio_pci_notify', fields, NOTIFY_OFF_MULTIPLIER * queueCount);
}
