/** Numbers of the vhost-user protocol, spelled as docs/interop/vhost-user.rst of QEMU 11.1 does. */

/* Header: request u32, flags u32, size u32. */
export const VHOST_USER_HDR_SIZE = 12;
export const VHOST_USER_VERSION_MASK = 0x3;
export const VHOST_USER_VERSION = 0x1;
export const VHOST_USER_REPLY_MASK = 0x1 << 2;
export const VHOST_USER_NEED_REPLY_MASK = 0x1 << 3;

/* Front-end message types. */
export const VHOST_USER_GET_FEATURES = 1;
export const VHOST_USER_SET_FEATURES = 2;
export const VHOST_USER_SET_OWNER = 3;
export const VHOST_USER_RESET_OWNER = 4;
export const VHOST_USER_SET_MEM_TABLE = 5;
export const VHOST_USER_SET_LOG_BASE = 6;
export const VHOST_USER_SET_LOG_FD = 7;
export const VHOST_USER_SET_VRING_NUM = 8;
export const VHOST_USER_SET_VRING_ADDR = 9;
export const VHOST_USER_SET_VRING_BASE = 10;
export const VHOST_USER_GET_VRING_BASE = 11;
export const VHOST_USER_SET_VRING_KICK = 12;
export const VHOST_USER_SET_VRING_CALL = 13;
export const VHOST_USER_SET_VRING_ERR = 14;
export const VHOST_USER_GET_PROTOCOL_FEATURES = 15;
export const VHOST_USER_SET_PROTOCOL_FEATURES = 16;
export const VHOST_USER_GET_QUEUE_NUM = 17;
export const VHOST_USER_SET_VRING_ENABLE = 18;
export const VHOST_USER_SEND_RARP = 19;
export const VHOST_USER_NET_SET_MTU = 20;
export const VHOST_USER_SET_BACKEND_REQ_FD = 21;
export const VHOST_USER_IOTLB_MSG = 22;
export const VHOST_USER_SET_VRING_ENDIAN = 23;
export const VHOST_USER_GET_CONFIG = 24;
export const VHOST_USER_SET_CONFIG = 25;
export const VHOST_USER_CREATE_CRYPTO_SESSION = 26;
export const VHOST_USER_CLOSE_CRYPTO_SESSION = 27;
export const VHOST_USER_POSTCOPY_ADVISE = 28;
export const VHOST_USER_POSTCOPY_LISTEN = 29;
export const VHOST_USER_POSTCOPY_END = 30;
export const VHOST_USER_GET_INFLIGHT_FD = 31;
export const VHOST_USER_SET_INFLIGHT_FD = 32;
export const VHOST_USER_GPU_SET_SOCKET = 33;
export const VHOST_USER_RESET_DEVICE = 34;
export const VHOST_USER_VRING_KICK = 35;
export const VHOST_USER_GET_MAX_MEM_SLOTS = 36;
export const VHOST_USER_ADD_MEM_REG = 37;
export const VHOST_USER_REM_MEM_REG = 38;
export const VHOST_USER_SET_STATUS = 39;
export const VHOST_USER_GET_STATUS = 40;
export const VHOST_USER_GET_SHARED_OBJECT = 41;
export const VHOST_USER_SET_DEVICE_STATE_FD = 42;
export const VHOST_USER_CHECK_DEVICE_STATE = 43;
export const VHOST_USER_GET_SHMEM_CONFIG = 44;

/* Back-end message types. */
export const VHOST_USER_BACKEND_IOTLB_MSG = 1;
export const VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2;
export const VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG = 3;
export const VHOST_USER_BACKEND_VRING_CALL = 4;
export const VHOST_USER_BACKEND_VRING_ERR = 5;
export const VHOST_USER_BACKEND_SHARED_OBJECT_ADD = 6;
export const VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE = 7;
export const VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP = 8;
export const VHOST_USER_BACKEND_SHMEM_MAP = 9;
export const VHOST_USER_BACKEND_SHMEM_UNMAP = 10;

/* Protocol feature bit numbers. */
export const VHOST_USER_PROTOCOL_F_MQ = 0;
export const VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1;
export const VHOST_USER_PROTOCOL_F_RARP = 2;
export const VHOST_USER_PROTOCOL_F_REPLY_ACK = 3;
export const VHOST_USER_PROTOCOL_F_NET_MTU = 4;
export const VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5;
export const VHOST_USER_PROTOCOL_F_CROSS_ENDIAN = 6;
export const VHOST_USER_PROTOCOL_F_CRYPTO_SESSION = 7;
export const VHOST_USER_PROTOCOL_F_PAGEFAULT = 8;
export const VHOST_USER_PROTOCOL_F_CONFIG = 9;
export const VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD = 10;
export const VHOST_USER_PROTOCOL_F_HOST_NOTIFIER = 11;
export const VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12;
export const VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13;
export const VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS = 14;
export const VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15;
export const VHOST_USER_PROTOCOL_F_STATUS = 16;
export const VHOST_USER_PROTOCOL_F_XEN_MMAP = 17;
export const VHOST_USER_PROTOCOL_F_SHARED_OBJECT = 18;
export const VHOST_USER_PROTOCOL_F_DEVICE_STATE = 19;
export const VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT = 20;
export const VHOST_USER_PROTOCOL_F_GPA_ADDRESSES = 21;
/** SHMEM_MAP in the document's list; older crates of rust-vmm use bit 21 for it. */
export const VHOST_USER_PROTOCOL_F_SHMEM = 22;

/* Types of struct vhost_iotlb_msg, and its permissions. */
export const VHOST_IOTLB_MISS = 1;
export const VHOST_IOTLB_UPDATE = 2;
export const VHOST_IOTLB_INVALIDATE = 3;
export const VHOST_IOTLB_ACCESS_FAIL = 4;
export const VHOST_ACCESS_RO = 0x1;
export const VHOST_ACCESS_WO = 0x2;

/* Feature bit numbers that mean something to the protocol itself. */
export const VHOST_F_LOG_ALL = 26;
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_IOMMU_PLATFORM = 33;
export const VIRTIO_F_RING_PACKED = 34;

/* Payload of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR. */
export const VHOST_USER_VRING_IDX_MASK = 0xff;
export const VHOST_USER_VRING_NOFD_MASK = 0x1 << 8;

/** Flag of SET_VRING_ADDR: log writes to the used ring. */
export const VHOST_VRING_F_LOG = 0;
/** Regions of a SET_MEM_TABLE message. */
export const VHOST_MEMORY_BASELINE_NREGIONS = 8;
export const VHOST_USER_MAX_CONFIG_SIZE = 256;
export const VHOST_USER_MAX_SHMEM_REGIONS = 256;
/** Largest virtqueue, virtio 1.3 §2.7 and §2.8.10.1. */
export const VIRTQUEUE_MAX_SIZE = 32768;

/** The mask of feature bit number `n`. */
export function featureBit(n: number): bigint {
  return 1n << BigInt(n);
}

/** The mask of several feature bit numbers. */
export function featureBits(...numbers: readonly number[]): bigint {
  return numbers.reduce((mask, n) => mask | featureBit(n), 0n);
}
