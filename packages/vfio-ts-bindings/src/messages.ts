import * as c from './constants.js';
import { emptyCodec, type Codec } from './codec/codec.js';
import { deviceInfoCodec, deviceInfoRequestCodec } from './codec/device-info.js';
import {
  dmaAccessCodec,
  dmaDataCodec,
  dmaMapCodec,
  dmaUnmapCodec,
  dmaWriteReplyCodec,
} from './codec/dma.js';
import { deviceFeatureCodec, migDataCodec, migDataReadCodec } from './codec/feature.js';
import { ioFdsReplyCodec, ioFdsRequestCodec } from './codec/io-fds.js';
import { irqInfoCodec, irqInfoRequestCodec, setIrqsCodec } from './codec/irq.js';
import {
  regionAccessCodec,
  regionDataCodec,
  writeMultiCodec,
  writeMultiReplyCodec,
} from './codec/region-access.js';
import { regionInfoReplyCodec, regionInfoRequestCodec } from './codec/region-info.js';
import { regionRemapCodec } from './codec/region-remap.js';
import { versionCodec } from './codec/version.js';

/** Which side sends the command. */
export type Direction = 'client-to-server' | 'server-to-client';

/**
 * When a command is answered: `always` for one that makes no sense without its reply (No_reply is
 * refused), `unless-no-reply` for all others. A No_reply command never gets a reply, not even an
 * error.
 */
export type ReplyRule = 'always' | 'unless-no-reply';

/** Everything that is fixed about one command: adding a message is adding one of these. */
export interface MessageDescriptor<Request = unknown, Reply = unknown> {
  /** The specification's name. */
  readonly name: string;
  readonly id: number;
  readonly direction: Direction;
  readonly replyRule: ReplyRule;
  readonly request: Codec<Request>;
  readonly reply: Codec<Reply>;
  /** Most fds of a request; the negotiated limit applies too. Infinity: that limit alone. */
  readonly maxRequestFds: number;
  readonly maxReplyFds: number;
}

interface Rules {
  readonly direction?: Direction;
  readonly replyRule?: ReplyRule;
  readonly maxRequestFds?: number;
  readonly maxReplyFds?: number;
}

const byId = new Map<number, MessageDescriptor>();

function define<Q, R>(
  name: string,
  id: number,
  request: Codec<Q>,
  reply: Codec<R>,
  rules: Rules = {},
): MessageDescriptor<Q, R> {
  const descriptor: MessageDescriptor<Q, R> = {
    name,
    id,
    request,
    reply,
    direction: 'client-to-server',
    replyRule: 'unless-no-reply',
    maxRequestFds: 0,
    maxReplyFds: 0,
    ...rules,
  };
  byId.set(id, descriptor);
  return descriptor;
}

/** The messages, by the specification's names without their prefix. */
export const Messages = {
  VERSION: define('VFIO_USER_VERSION', c.VFIO_USER_VERSION, versionCodec, versionCodec, {
    replyRule: 'always',
  }),
  DMA_MAP: define('VFIO_USER_DMA_MAP', c.VFIO_USER_DMA_MAP, dmaMapCodec, emptyCodec, {
    maxRequestFds: 1,
  }),
  DMA_UNMAP: define('VFIO_USER_DMA_UNMAP', c.VFIO_USER_DMA_UNMAP, dmaUnmapCodec, dmaUnmapCodec),
  DEVICE_GET_INFO: define(
    'VFIO_USER_DEVICE_GET_INFO',
    c.VFIO_USER_DEVICE_GET_INFO,
    deviceInfoRequestCodec,
    deviceInfoCodec,
  ),
  DEVICE_GET_REGION_INFO: define(
    'VFIO_USER_DEVICE_GET_REGION_INFO',
    c.VFIO_USER_DEVICE_GET_REGION_INFO,
    regionInfoRequestCodec,
    regionInfoReplyCodec,
    { maxReplyFds: 1 },
  ),
  DEVICE_GET_REGION_IO_FDS: define(
    'VFIO_USER_DEVICE_GET_REGION_IO_FDS',
    c.VFIO_USER_DEVICE_GET_REGION_IO_FDS,
    ioFdsRequestCodec,
    ioFdsReplyCodec,
    { maxReplyFds: Infinity },
  ),
  DEVICE_GET_IRQ_INFO: define(
    'VFIO_USER_DEVICE_GET_IRQ_INFO',
    c.VFIO_USER_DEVICE_GET_IRQ_INFO,
    irqInfoRequestCodec,
    irqInfoCodec,
  ),
  DEVICE_SET_IRQS: define(
    'VFIO_USER_DEVICE_SET_IRQS',
    c.VFIO_USER_DEVICE_SET_IRQS,
    setIrqsCodec,
    emptyCodec,
    { maxRequestFds: Infinity },
  ),
  REGION_READ: define(
    'VFIO_USER_REGION_READ',
    c.VFIO_USER_REGION_READ,
    regionAccessCodec,
    regionDataCodec,
  ),
  REGION_WRITE: define(
    'VFIO_USER_REGION_WRITE',
    c.VFIO_USER_REGION_WRITE,
    regionDataCodec,
    regionAccessCodec,
  ),
  DMA_READ: define('VFIO_USER_DMA_READ', c.VFIO_USER_DMA_READ, dmaAccessCodec, dmaDataCodec, {
    direction: 'server-to-client',
  }),
  DMA_WRITE: define(
    'VFIO_USER_DMA_WRITE',
    c.VFIO_USER_DMA_WRITE,
    dmaDataCodec,
    dmaWriteReplyCodec,
    { direction: 'server-to-client' },
  ),
  DEVICE_RESET: define('VFIO_USER_DEVICE_RESET', c.VFIO_USER_DEVICE_RESET, emptyCodec, emptyCodec),
  REGION_WRITE_MULTI: define(
    'VFIO_USER_REGION_WRITE_MULTI',
    c.VFIO_USER_REGION_WRITE_MULTI,
    writeMultiCodec,
    writeMultiReplyCodec,
  ),
  DEVICE_FEATURE: define(
    'VFIO_USER_DEVICE_FEATURE',
    c.VFIO_USER_DEVICE_FEATURE,
    deviceFeatureCodec,
    deviceFeatureCodec,
  ),
  MIG_DATA_READ: define(
    'VFIO_USER_MIG_DATA_READ',
    c.VFIO_USER_MIG_DATA_READ,
    migDataReadCodec,
    migDataCodec,
  ),
  MIG_DATA_WRITE: define(
    'VFIO_USER_MIG_DATA_WRITE',
    c.VFIO_USER_MIG_DATA_WRITE,
    migDataCodec,
    emptyCodec,
  ),
  REGION_REMAP: define(
    'VFIO_USER_EXT_REGION_REMAP',
    c.VFIO_USER_EXT_REGION_REMAP,
    regionRemapCodec,
    emptyCodec,
    { direction: 'server-to-client', replyRule: 'always', maxRequestFds: Infinity },
  ),
} as const;

/** The descriptor of a command number. */
export function messageById(id: number): MessageDescriptor | undefined {
  return byId.get(id);
}
