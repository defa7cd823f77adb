import { VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE } from './constants.js';

/** Bounds on what a peer can make this side hold. All are enforced on input. */
export interface VfioUserLimits {
  /**
   * Most bytes of data in one REGION or DMA transfer, announced as `max_data_xfer_size`. The value
   * in force is the smaller one of both sides. Default 1 MiB; QEMU needs at least 4,096.
   */
  readonly maxDataXferSize: number;
  /**
   * Longest message in bytes, header included; a longer one ends the connection, because the
   * stream behind it cannot be trusted. Default `maxDataXferSize` + 4,096.
   */
  readonly maxMessageSize: number;
  /**
   * Most fds that one received message may carry, announced as `max_msg_fds`. Default 16: QEMU
   * refuses a server that announces more.
   */
  readonly maxMsgFds: number;
  /** Most DMA mappings at a time, announced as `max_dma_maps`. Default 65,535. */
  readonly maxDmaMaps: number;
  /** Most requests of this side that wait for a reply. Default 64. */
  readonly maxOutstanding: number;
  /**
   * Most commands of the peer that this side holds back while an earlier one is being handled or
   * the transport is full; used by the client. Default 64.
   */
  readonly maxDeferred: number;
  /** Longest version JSON in bytes, its NUL included. Default 4,096. */
  readonly maxVersionData: number;
}

/** Room for a header and the largest fixed part of a message beside the data. */
const MESSAGE_OVERHEAD = 4096;

/** The defaults, with the given values in their place. */
export function resolveLimits(given: Partial<VfioUserLimits> = {}): VfioUserLimits {
  const maxDataXferSize = given.maxDataXferSize ?? VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE;
  return {
    maxMessageSize: maxDataXferSize + MESSAGE_OVERHEAD,
    maxMsgFds: 16,
    maxDmaMaps: 65535,
    maxOutstanding: 64,
    maxDeferred: 64,
    maxVersionData: 4096,
    ...given,
    maxDataXferSize,
  };
}
