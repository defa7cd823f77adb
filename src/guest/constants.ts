/**
 * What the driver finds in the PCI function: registers of PCI, of virtio-pci (virtio 1.3 §4.1), and
 * of the virtio-vhost-user device (RFC of January 2018, and its 2019 revision).
 */

/** PCI configuration space. */
export const PCI_VENDOR_ID = 0x00;
export const PCI_COMMAND = 0x04;
export const PCI_COMMAND_MEMORY = 1 << 1;
export const PCI_COMMAND_MASTER = 1 << 2;
export const PCI_COMMAND_INTX_DISABLE = 1 << 10;
export const PCI_STATUS = 0x06;
export const PCI_STATUS_CAP_LIST = 1 << 4;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_EXP = 0x10;
export const PCI_CAP_ID_MSIX = 0x11;
export const PCI_MSIX_FLAGS = 2;
export const PCI_MSIX_FLAGS_QSIZE = 0x7ff;
export const PCI_MSIX_FLAGS_ENABLE = 0x8000;
export const PCI_EXP_DEVCTL = 8;
export const PCI_EXP_DEVCTL_BCR_FLR = 0x8000;

/** Bytes of struct virtio_pci_cap, and of struct virtio_pci_cap64. */
export const VIRTIO_PCI_CAP_BYTES = 16;
export const VIRTIO_PCI_CAP64_BYTES = 24;

/** Offsets in struct virtio_pci_common_cfg (§4.1.4.3). */
export const COMMON_DEVICE_FEATURE_SELECT = 0x00;
export const COMMON_DEVICE_FEATURE = 0x04;
export const COMMON_DRIVER_FEATURE_SELECT = 0x08;
export const COMMON_DRIVER_FEATURE = 0x0c;
export const COMMON_CONFIG_MSIX_VECTOR = 0x10;
export const COMMON_NUM_QUEUES = 0x12;
export const COMMON_DEVICE_STATUS = 0x14;
export const COMMON_CONFIG_GENERATION = 0x15;
export const COMMON_QUEUE_SELECT = 0x16;
export const COMMON_QUEUE_SIZE = 0x18;
export const COMMON_QUEUE_MSIX_VECTOR = 0x1a;
export const COMMON_QUEUE_ENABLE = 0x1c;
export const COMMON_QUEUE_NOTIFY_OFF = 0x1e;
export const COMMON_QUEUE_DESC = 0x20;
export const COMMON_QUEUE_DRIVER = 0x28;
export const COMMON_QUEUE_DEVICE = 0x30;
export const COMMON_CFG_BYTES = 0x38;

/** Device configuration of virtio-vhost-user: le32 status, le32 max_vhost_queues, u8 uuid[16]. */
export const CONFIG_STATUS = 0;
export const CONFIG_MAX_VHOST_QUEUES = 4;
export const CONFIG_UUID = 8;
/** The RFC's device has no uuid. */
export const CONFIG_BYTES_RFC = 8;
export const CONFIG_BYTES = 24;
/** The backend (this driver) is up. */
export const SLAVE_UP = 1 << 0;
/** A frontend is connected; set by the device. */
export const MASTER_UP = 1 << 1;

/** Bit of the ISR register: a frontend kicked some vring while MSI-X was off. */
export const ISR_KICK = 1 << 2;

/** Virtqueues: device to driver, and driver to device. */
export const RXQ = 0;
export const TXQ = 1;
