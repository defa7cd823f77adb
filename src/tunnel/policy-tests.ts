/** Titles of the tests that show what the policy's rows say; a test looks for each of them. */
export const OFFERED = 'the allow list is exactly the features whose row does not mask them';
export const REQUESTS = 'every request of a frontend is treated as its row says';
export const START = "QEMU's start of vhost-user-net passes, masked and rewritten where it must be";
export const BEFORE =
  'before negotiation: what needs a feature, and accepting what was never offered';
export const REPLY_ACK =
  'with REPLY_ACK a frontend gets the error that it asked for, also of the device';
export const OWNER = 'the owner is set once, and again after a reset';
export const PAIRS = 'a memory table and the number of queues may be asked for once per queue pair';
export const ENABLE = 'rings are enabled one by one; those that do not exist get their answer';
export const RING = 'a ring is told its size and its base as they are';
export const ADDRESSES = 'ring addresses follow the memory table';
export const SLOTS = 'memory regions come and go one by one with CONFIGURE_MEM_SLOTS';
export const REPEATED = 'a region that is added once per queue pair reaches the guest once';
export const LOG_BASE = 'SET_LOG_BASE shows the log and tells the guest its place';
export const LOG_FD = 'SET_LOG_FD binds the log doorbell and passes';
export const RARP = 'SEND_RARP passes the address to announce, with RARP';
export const MTU = 'NET_SET_MTU passes an MTU of 16 bits, with NET_MTU';
export const ENDIAN = 'SET_VRING_ENDIAN passes 0 and 1, with CROSS_ENDIAN';
export const CONFIG = 'configuration space is read and written through the tunnel, with CONFIG';
export const CRYPTO = 'crypto sessions pass as bytes, with CRYPTO_SESSION';
export const RESET = 'RESET_DEVICE passes each time, with its feature';
export const STATUS = 'the device status is set and read through the tunnel, with STATUS';
export const POSTCOPY = 'post-copy is refused: its feature is never offered';
export const NO_FDS =
  "what would need a guest's fd, or give it one, is refused: GPU socket, shared objects";
export const GET_INFLIGHT =
  'GET_INFLIGHT_FD: the guest sets a buffer up, and the frontend gets its memfd';
export const SET_INFLIGHT = 'SET_INFLIGHT_FD shows the buffer and tells the guest its place';
export const CHANNEL = 'requests of the guest go to the channel, replies come back';
export const UNSERVED = 'requests of the guest that need an fd are refused';
export const INBAND = 'in-band notifications pass both ways';
export const IOTLB = 'IOTLB messages pass, and are answered';
export const MISS = 'IOTLB misses of the guest pass over the channel';
export const SHMEM = 'SHMEM: memory of the guest is mapped by the frontend, if it is shared';
