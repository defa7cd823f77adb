/** Constants of the virtio-vhost-user device (RFC of January 2018, and its 2019 revision). */

/** Virtio device id of the RFC. Linux has since given 24 to virtio-mem, so it is an option. */
export const VIRTIO_ID_VHOST_USER = 24;

/** Device configuration, `status` field. */
export const VIRTIO_VHOST_USER_STATUS_SLAVE_UP = 1 << 0;
export const VIRTIO_VHOST_USER_STATUS_MASTER_UP = 1 << 1;

/** Virtqueue indices: device to driver, and driver to device. */
export const RXQ = 0;
export const TXQ = 1;

/** The 2019 DPDK driver refuses a device with fewer. */
export const DEFAULT_MAX_VHOST_QUEUES = 256;
export const MAX_VHOST_QUEUES = 1024;

/** Largest rxq/txq size; existing drivers use the largest that is offered. */
export const QUEUE_SIZE_MAX = 256;
