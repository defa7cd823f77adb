import { VvuError } from '../errors.js';
import type { Logger } from '../log.js';
import {
  backendMessage,
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
import type { InflightBuffers } from './inflight.js';
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
}

/** A message for the frontend. */
export interface Answer {
  readonly bytes: Buffer;
  /** Goes with it; the receiver's to close. */
  readonly fd?: number;
}

/** Kinds of dropped messages that are warned of, per connection. */
const MAX_REPORTED = 16;

function broken(cause: unknown): VvuError {
  const detail = cause instanceof Error ? cause.message : String(cause);
  return new VvuError('BAD_GUEST_MESSAGE', 'device', `message on txq: ${detail}`, { cause });
}

/**
 * Messages from txq on their way to the frontend: checked, filtered, in the socket's byte order.
 *
 * A message that is no vhost-user message, or whose payload does not fit its request, is the
 * driver's fault and needs a reset. A reply that nobody waits for, or not yet, is only dropped:
 * after a reconnection a correct driver may still answer the previous frontend, and a reset would
 * turn that race into an outage.
 */
export class GuestReplies {
  /** Kinds of dropped messages that were reported, so that a guest cannot fill the log. */
  readonly #reported = new Set<string>();

  constructor(private readonly options: GuestRepliesOptions) {}

  /**
   * @returns the message for the frontend, or undefined when there is nothing to send
   * @throws VvuError `BAD_GUEST_MESSAGE` of scope `device`
   */
  take(message: Uint8Array): Answer | undefined {
    const { log, outstanding, order } = this.options;
    const frame = decodeGuestFrame(message);
    if (log.isLevelEnabled('trace')) {
      const channel = frame.reply ? 'frontend' : 'backend';
      log.trace({ message: describeFrame(frame, 'LE', channel) }, 'from the guest');
    }
    if (!frame.reply) {
      const name = backendMessage(frame.request)?.name ?? String(frame.request);
      this.#drop(`request ${name}`, 'back-end request of the guest discarded');
      return undefined;
    }
    const expected = outstanding.next;
    if (expected?.descriptor.id !== frame.request) {
      this.#drop(`reply ${frame.request}`, 'reply that the frontend does not expect dropped');
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

  #drop(kind: string, text: string): void {
    const { log } = this.options;
    if (this.#reported.size < MAX_REPORTED && !this.#reported.has(kind)) {
      this.#reported.add(kind);
      log.warn({ kind }, text);
    } else {
      log.debug({ kind }, text);
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
