/**
 * Constants of virtio 1.3 that a transport and a device share, in the specification's spelling.
 * Constants of the rings are in ring-constants.ts.
 */

/** Device status field (§2.1). */
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
export const VIRTIO_CONFIG_S_DRIVER = 2;
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0x40;
export const VIRTIO_CONFIG_S_FAILED = 0x80;

/** Reserved feature bits (§6) as masks of the 64-bit feature set. */
export const VIRTIO_F_VERSION_1 = 1n << 32n;
export const VIRTIO_F_ACCESS_PLATFORM = 1n << 33n;
export const VIRTIO_F_RING_PACKED = 1n << 34n;
export const VIRTIO_F_IN_ORDER = 1n << 35n;
export const VIRTIO_F_ORDER_PLATFORM = 1n << 36n;
export const VIRTIO_F_SR_IOV = 1n << 37n;
export const VIRTIO_F_NOTIFICATION_DATA = 1n << 38n;
export const VIRTIO_F_NOTIF_CONFIG_DATA = 1n << 39n;
export const VIRTIO_F_RING_RESET = 1n << 40n;
export const VIRTIO_F_ADMIN_VQ = 1n << 41n;

/** PCI vendor id of every virtio device (§4.1.2). */
export const PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1af4;
/** A modern device's PCI device id is this plus its virtio id (§4.1.2.1). */
export const VIRTIO_PCI_MODERN_DEVICE_ID_BASE = 0x1040;

/** `cfg_type` of the vendor-specific capabilities (§4.1.4). */
export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
export const VIRTIO_PCI_CAP_PCI_CFG = 5;
/** Types 6 and 7 as the virtio-vhost-user revision of 2019 uses them. */
export const VIRTIO_PCI_CAP_DOORBELL_CFG = 6;
export const VIRTIO_PCI_CAP_NOTIFICATION_CFG = 7;
export const VIRTIO_PCI_CAP_SHARED_MEMORY_CFG = 8;

/** ISR status bits (§4.1.4.5). */
export const VIRTIO_PCI_ISR_QUEUE = 1;
export const VIRTIO_PCI_ISR_CONFIG = 2;
/** A kick without an MSI-X vector (draft "Vhost-user Device Backend" v5). */
export const VIRTIO_PCI_ISR_KICK = 4;

/** No MSI-X vector is assigned (§4.1.5.1.2). */
export const VIRTIO_MSI_NO_VECTOR = 0xffff;
