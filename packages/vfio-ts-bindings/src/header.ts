import {
  VFIO_USER_F_ERROR,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_COMMAND,
  VFIO_USER_F_TYPE_MASK,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
} from './constants.js';

/** The 16 bytes that every message starts with, field by field. */
export interface MessageHeader {
  /** Belongs to the sender of the command; echoed in the reply. */
  readonly id: number;
  readonly command: number;
  /** Bytes of the message, header included. */
  readonly size: number;
  readonly flags: number;
  /** errno of a reply with VFIO_USER_F_ERROR; reserved otherwise. */
  readonly error: number;
}

const KNOWN_FLAGS = VFIO_USER_F_TYPE_MASK | VFIO_USER_F_NO_REPLY | VFIO_USER_F_ERROR;

/** Decodes a header. Any 16 bytes are one; what they mean is checked by {@link commandProblem}. */
export function decodeHeader(bytes: Uint8Array): MessageHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, VFIO_USER_HEADER_SIZE);
  return {
    id: view.getUint16(0, true),
    command: view.getUint16(2, true),
    size: view.getUint32(4, true),
    flags: view.getUint32(8, true),
    error: view.getUint32(12, true),
  };
}

export function isReply(header: MessageHeader): boolean {
  return (header.flags & VFIO_USER_F_TYPE_MASK) === VFIO_USER_F_TYPE_REPLY;
}

export function isError(header: MessageHeader): boolean {
  return (header.flags & VFIO_USER_F_ERROR) !== 0;
}

export function wantsReply(header: MessageHeader): boolean {
  return (header.flags & VFIO_USER_F_NO_REPLY) === 0;
}

/** Why the flags of a message that is no reply are not those of a command, if so. */
export function commandProblem(header: MessageHeader): string | undefined {
  if ((header.flags & VFIO_USER_F_TYPE_MASK) !== VFIO_USER_F_TYPE_COMMAND) {
    return `unknown message type in flags 0x${header.flags.toString(16)}`;
  }
  if ((header.flags & ~KNOWN_FLAGS) !== 0 || isError(header)) {
    return `reserved bits in command flags 0x${header.flags.toString(16)}`;
  }
  return undefined;
}

function encodeMessage(
  id: number,
  command: number,
  flags: number,
  error: number,
  payload: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(VFIO_USER_HEADER_SIZE + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id, true);
  view.setUint16(2, command, true);
  view.setUint32(4, bytes.length, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, error, true);
  bytes.set(payload, VFIO_USER_HEADER_SIZE);
  return bytes;
}

const NO_PAYLOAD = new Uint8Array(0);

export function encodeCommand(
  id: number,
  command: number,
  payload: Uint8Array,
  noReply = false,
): Uint8Array {
  const flags = VFIO_USER_F_TYPE_COMMAND | (noReply ? VFIO_USER_F_NO_REPLY : 0);
  return encodeMessage(id, command, flags, 0, payload);
}

export function encodeReply(id: number, command: number, payload: Uint8Array): Uint8Array {
  return encodeMessage(id, command, VFIO_USER_F_TYPE_REPLY, 0, payload);
}

/** "If an error occurs, the reply message must only include the reply header." */
export function encodeErrorReply(id: number, command: number, errno: number): Uint8Array {
  const flags = VFIO_USER_F_TYPE_REPLY | VFIO_USER_F_ERROR;
  return encodeMessage(id, command, flags, errno, NO_PAYLOAD);
}
