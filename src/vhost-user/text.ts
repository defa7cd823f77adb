import { errorMessage } from '../errors.js';
import type { ByteOrder, PayloadCodec } from './codec.js';
import { decodeFrame, type Frame } from './frame.js';
import type { MessageDescriptor } from './descriptor.js';
import { backendMessage, frontendMessage } from './messages.js';

/** On which channel a message was seen: the front-end's socket, or the back-end's own channel. */
export type Channel = 'frontend' | 'backend';

function payloadText(codec: PayloadCodec<unknown>, frame: Frame, order: ByteOrder): string {
  try {
    return codec.describe(codec.decode(frame.payload, order));
  } catch (error) {
    return `<${errorMessage(error)}>`;
  }
}

function codecOf(descriptor: MessageDescriptor, frame: Frame): PayloadCodec<unknown> {
  return frame.reply ? descriptor.replyPayload : descriptor.request;
}

/** One message on one line: name, flags, fields. For trace logs and people; never throws. */
export function describeFrame(
  frame: Frame,
  order: ByteOrder,
  channel: Channel = 'frontend',
): string {
  const lookup = channel === 'frontend' ? frontendMessage : backendMessage;
  const descriptor = lookup(frame.request);
  const words = [descriptor?.name ?? `request ${frame.request}`];
  if (frame.reply) {
    words.push('reply');
  }
  if (frame.needReply) {
    words.push('need-reply');
  }
  const text =
    descriptor === undefined
      ? `${frame.size} bytes`
      : payloadText(codecOf(descriptor, frame), frame, order);
  if (text !== '') {
    words.push(text);
  }
  return words.join(' ');
}

/** The same for a whole message as bytes. */
export function describeMessageBytes(
  bytes: Uint8Array,
  order: ByteOrder,
  channel: Channel = 'frontend',
): string {
  try {
    return describeFrame(decodeFrame(bytes, order), order, channel);
  } catch (error) {
    return `<${errorMessage(error)}>`;
  }
}
