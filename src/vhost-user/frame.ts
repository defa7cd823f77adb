import { endianness } from 'node:os';

import { VvuError } from '../errors.js';
import { hex, viewOf, type ByteOrder } from './codec.js';
import {
  VHOST_USER_HDR_SIZE,
  VHOST_USER_NEED_REPLY_MASK,
  VHOST_USER_REPLY_MASK,
  VHOST_USER_VERSION,
  VHOST_USER_VERSION_MASK,
} from './constants.js';

/** Byte order of the machine, which is the byte order on a vhost-user socket. */
export const nativeOrder: ByteOrder = endianness();

/**
 * Longest payload that is accepted. The longest that the protocol defines is the shared memory
 * configuration (2,056 bytes).
 */
export const MAX_PAYLOAD = 4096;

/** Most fds with one message, those of SET_MEM_TABLE. */
export const MAX_FDS = 8;

/** How a transport cuts the stream: see `Framing` of the native socket. */
export const vhostUserFraming = {
  headerSize: VHOST_USER_HDR_SIZE,
  lengthOffset: 8,
  lengthIncludesHeader: false,
  maxMessage: VHOST_USER_HDR_SIZE + MAX_PAYLOAD,
  maxFds: MAX_FDS,
} as const;

export interface FrameHeader {
  readonly request: number;
  readonly reply: boolean;
  readonly needReply: boolean;
  /** Bytes of payload. */
  readonly size: number;
}

/** A message with its payload still encoded. */
export interface Frame extends FrameHeader {
  readonly payload: Buffer;
}

const FLAGS = VHOST_USER_VERSION_MASK | VHOST_USER_REPLY_MASK | VHOST_USER_NEED_REPLY_MASK;

function badHeader(detail: string): VvuError {
  return new VvuError('BAD_HEADER', 'peer', `vhost-user header: ${detail}`);
}

/**
 * Decodes the first 12 bytes.
 * @throws VvuError `BAD_HEADER` of scope `peer`: the stream cannot be followed any further
 */
export function decodeHeader(bytes: Uint8Array, order: ByteOrder): FrameHeader {
  if (bytes.length < VHOST_USER_HDR_SIZE) {
    throw badHeader(`${bytes.length} bytes, expected 12`);
  }
  const view = viewOf(bytes);
  const little = order === 'LE';
  const flags = view.getUint32(4, little);
  const size = view.getUint32(8, little);
  if ((flags & VHOST_USER_VERSION_MASK) !== VHOST_USER_VERSION) {
    throw badHeader(`version ${flags & VHOST_USER_VERSION_MASK}, expected 1`);
  }
  if (flags > FLAGS) {
    throw badHeader(`reserved flags ${hex(flags)}`);
  }
  if (size > MAX_PAYLOAD) {
    throw badHeader(`payload of ${size} bytes, at most ${MAX_PAYLOAD}`);
  }
  return {
    request: view.getUint32(0, little),
    reply: (flags & VHOST_USER_REPLY_MASK) !== 0,
    needReply: (flags & VHOST_USER_NEED_REPLY_MASK) !== 0,
    size,
  };
}

/**
 * Decodes one whole message; the payload is a view of `bytes`.
 * @throws VvuError `BAD_HEADER` of scope `peer`
 */
export function decodeFrame(bytes: Uint8Array, order: ByteOrder): Frame {
  const header = decodeHeader(bytes, order);
  const payload = bytes.subarray(VHOST_USER_HDR_SIZE);
  if (payload.length !== header.size) {
    throw badHeader(`says ${header.size} bytes of payload, ${payload.length} are there`);
  }
  return {
    ...header,
    payload: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength),
  };
}

/** One message: header in `order`, then the payload, which was encoded in the same order. */
export function encodeFrame(
  header: Pick<FrameHeader, 'request'> & Partial<Pick<FrameHeader, 'reply' | 'needReply'>>,
  payload: Uint8Array,
  order: ByteOrder,
): Buffer {
  const bytes = Buffer.alloc(VHOST_USER_HDR_SIZE + payload.length);
  const view = viewOf(bytes);
  const little = order === 'LE';
  const flags =
    VHOST_USER_VERSION |
    (header.reply === true ? VHOST_USER_REPLY_MASK : 0) |
    (header.needReply === true ? VHOST_USER_NEED_REPLY_MASK : 0);
  view.setUint32(0, header.request, little);
  view.setUint32(4, flags, little);
  view.setUint32(8, payload.length, little);
  bytes.set(payload, VHOST_USER_HDR_SIZE);
  return bytes;
}
