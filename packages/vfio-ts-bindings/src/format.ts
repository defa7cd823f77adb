import type { Codec } from './codec/codec.js';
import { errnoName } from './errno.js';
import { messageOf } from './errors.js';
import { isError, isReply, wantsReply, type MessageHeader } from './header.js';
import { messageById } from './messages.js';

/** Bytes of data that a trace line shows. */
const SHOWN_BYTES = 16;
/** Array elements that a trace line shows. */
const SHOWN_ITEMS = 8;

/**
 * One line for a trace log: the message's name, id and fields. Never throws, whatever the bytes.
 * @example `VFIO_USER_REGION_READ #7 {offset: 0x0, region: 7, count: 4096}`
 */
export function formatMessage(header: MessageHeader, payload: Uint8Array, fds: number): string {
  const descriptor = messageById(header.command);
  const name = descriptor?.name ?? `command ${header.command}`;
  const parts = [`${name} #${header.id}`];
  if (isReply(header)) parts.push('reply');
  else if (!wantsReply(header)) parts.push('no-reply');
  if (isReply(header) && isError(header)) {
    parts.push(`error ${errnoName(header.error)}`);
  } else if (descriptor === undefined) {
    parts.push(`${payload.length} bytes`);
  } else {
    const text = formatPayload(isReply(header) ? descriptor.reply : descriptor.request, payload);
    if (text !== '') parts.push(text);
  }
  if (fds > 0) parts.push(`fds=${fds}`);
  return parts.join(' ');
}

function formatPayload(codec: Codec<unknown>, payload: Uint8Array): string {
  try {
    const value = codec.decode(payload);
    return value === undefined ? '' : formatValue('', value);
  } catch (error) {
    return `malformed (${messageOf(error)})`;
  }
}

/** Fields that people read in hexadecimal. */
const HEX_FIELDS = new Set(['address', 'flags', 'fileOffset', 'length', 'offset', 'size']);

function formatValue(name: string, value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint') return formatNumber(name, value);
  if (value instanceof Uint8Array) return formatBytes(value);
  if (Array.isArray(value)) {
    const items = value.slice(0, SHOWN_ITEMS).map((item: unknown) => formatValue('', item));
    if (value.length > SHOWN_ITEMS) items.push(`… ${value.length} in all`);
    return `[${items.join(', ')}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const fields = Object.entries(value)
      .filter(([, field]) => field !== undefined)
      .map(([key, field]) => `${key}: ${formatValue(key, field)}`);
    return `{${fields.join(', ')}}`;
  }
  return JSON.stringify(value);
}

function formatNumber(name: string, value: number | bigint): string {
  if (!HEX_FIELDS.has(name)) return value.toString();
  return value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}

function formatBytes(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, SHOWN_BYTES), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('');
  return bytes.length > SHOWN_BYTES ? `${bytes.length} bytes ${shown}…` : `<${shown}>`;
}
