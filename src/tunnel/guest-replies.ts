import { VvuError } from '../errors.js';
import type { Logger } from '../log.js';
import {
  decodeFrame,
  describeFrame,
  encodeFrame,
  u64,
  type ByteOrder,
  type ExpectedReply,
  type Frame,
  type Inflight,
  type OutstandingReplies,
} from '../vhost-user/index.js';
import type { BackendChannel } from './backend-channel.js';
import type { InflightBuffers } from './inflight.js';
import type { KindLog } from './kind-log.js';
import type { Negotiation } from './negotiation.js';

export interface GuestRepliesOptions {
  /** Byte order on the frontend's socket. */
  readonly order: ByteOrder;
  readonly negotiation: Negotiation;
  readonly outstanding: OutstandingReplies;
  readonly inflight: InflightBuffers;
  readonly maxVhostQueues: number;
  readonly maxMemorySlots: number;
  readonly log: Logger;
  /** For what a guest can cause at will. */
  readonly kinds: KindLog;
  /** Where requests of the guest go. */
  readonly channel: Pick<BackendChannel, 'request'>;
}

/** A message for the frontend. */
export interface Answer {
  readonly bytes: Buffer;
  /** Goes with it; the receiver's to close. */
  readonly fd?: number;
}

function broken(cause: unknown): VvuError {
  const detail = cause instanceof Error ? cause.message : String(cause);
  return new VvuError('BAD_GUEST_MESSAGE', 'device', `message on txq: ${detail}`, { cause });
}

/**
 * Messages from txq on their way to the frontend: checked, filtered, in the socket's byte order.
 * Requests of the guest go to the back-end channel.
 *
 * A message that is no vhost-user message, or whose payload does not fit its request, is the
 * driver's fault and needs a reset. A reply that nobody waits for, or not yet, is only dropped:
 * after a reconnection a correct driver may still answer the previous frontend, and a reset would
 * turn that race into an outage.
 */
export class GuestReplies {
  constructor(private readonly options: GuestRepliesOptions) {}

  /**
   * @returns the message for the frontend, or undefined when there is nothing to send
   * @throws VvuError `BAD_GUEST_MESSAGE` of scope `device`
   */
  take(message: Uint8Array): Answer | undefined {
    const { channel, kinds, log, outstanding, order } = this.options;
    const frame = decodeGuestFrame(message);
    if (log.isLevelEnabled('trace')) {
      const channel = frame.reply ? 'frontend' : 'backend';
      log.trace({ message: describeFrame(frame, 'LE', channel) }, 'from the guest');
    }
    if (!frame.reply) {
      channel.request(frame);
      return undefined;
    }
    const expected = outstanding.next;
    if (expected?.descriptor.id !== frame.request) {
      if (outstanding.settlePossible(frame.request)) {
        return {
          bytes: encodeFrame({ request: frame.request, reply: true }, frame.payload, order),
        };
      }
      kinds.report(`reply ${frame.request}`, 'reply that the frontend does not expect dropped');
      return undefined;
    }
    const { payload, fd } = this.#convert(expected, frame);
    outstanding.settle();
    const bytes = encodeFrame({ request: frame.request, reply: true }, payload, order);
    return fd === undefined ? { bytes } : { bytes, fd };
  }

  #convert({ descriptor, own }: ExpectedReply, frame: Frame): { payload: Buffer; fd?: number } {
    const { order, inflight } = this.options;
    const codec = own ? descriptor.replyPayload : u64;
    try {
      const value = codec.decode(frame.payload, 'LE');
      if (own && descriptor.action === 'inflight') {
        // The codec is that of the inflight description, which is what it gives.
        const answer = inflight.answer(value as Inflight);
        const payload = codec.encode(answer.value, order);
        return answer.fd === undefined ? { payload } : { payload, fd: answer.fd };
      }
      const filtered =
        own && typeof value === 'bigint' ? this.#filter(descriptor.name, value) : value;
      return { payload: codec.encode(filtered, order) };
    } catch (error) {
      throw broken(error);
    }
  }

  /** What a frontend may learn of the answers that are features or counts. */
  #filter(name: string, value: bigint): bigint {
    const { negotiation, maxVhostQueues, maxMemorySlots } = this.options;
    switch (name) {
      case 'GET_FEATURES':
        return negotiation.offerFeatures(value);
      case 'GET_PROTOCOL_FEATURES':
        return negotiation.offerProtocolFeatures(value);
      case 'GET_QUEUE_NUM':
        // Queue pairs for net, vrings for others: at worst the index check catches the difference.
        return atMost(value, maxVhostQueues);
      case 'GET_MAX_MEM_SLOTS':
        return atMost(value, maxMemorySlots);
      default:
        return value;
    }
  }
}

function decodeGuestFrame(message: Uint8Array): Frame {
  try {
    return decodeFrame(message, 'LE');
  } catch (error) {
    throw broken(error);
  }
}

function atMost(value: bigint, limit: number): bigint {
  return value < BigInt(limit) ? value : BigInt(limit);
}
