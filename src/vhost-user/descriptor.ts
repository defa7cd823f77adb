import type { PayloadCodec } from './codec.js';

/**
 * When the receiver answers (besides errors on the receiver's side):
 * - `none`: only with REPLY_ACK negotiated and need_reply set, by a u64 (0 is success);
 * - `always`: with a payload of its own, whatever need_reply says;
 * - `with-fd`: like `always` when the request carried an fd, like `none` otherwise.
 */
export type ReplyRule = 'none' | 'always' | 'with-fd';

/**
 * What a tunnel has to do with a message besides passing it on:
 * - `pass`: nothing;
 * - `features`, `protocol-features`: keep track of what was offered and accepted, mask;
 * - `cap`: the reply is a count that the tunnel limits;
 * - `memory`: the fds become places in the guest's window, the table is rewritten;
 * - `kick`, `call`, `err`, `log-fd`: the fd is bound to a notification or doorbell;
 * - `log-base`, `backend-channel`, `inflight`, `transfer`: need an fd that the tunnel itself must
 *   hold or provide;
 * - `share-memory`: the tunnel adds the fd of the guest's memory;
 * - `unservable`: an fd would have to come from, or go to, the guest.
 */
export type TunnelAction =
  | 'pass'
  | 'features'
  | 'protocol-features'
  | 'cap'
  | 'memory'
  | 'kick'
  | 'call'
  | 'err'
  | 'log-fd'
  | 'log-base'
  | 'backend-channel'
  | 'inflight'
  | 'transfer'
  | 'share-memory'
  | 'unservable';

/** Feature bit numbers without which a message must not be sent. */
export interface MessageNeeds {
  /** A bit of GET_PROTOCOL_FEATURES / SET_PROTOCOL_FEATURES. */
  readonly protocolFeature?: number;
  /** A bit that GET_FEATURES must have shown. */
  readonly offered?: number;
  /** A bit that SET_FEATURES must have accepted. */
  readonly accepted?: number;
}

/** Everything there is to know about one message, in one place. */
export interface MessageDescriptor<Q = unknown, R = unknown> {
  readonly id: number;
  /** The specification's name without the VHOST_USER_ prefix. */
  readonly name: string;
  readonly sender: 'frontend' | 'backend';
  readonly request: PayloadCodec<Q>;
  /** Fds that the request may carry. */
  readonly fds: { readonly min: number; readonly max: number };
  readonly reply: ReplyRule;
  /** Payload of the reply of its own; acknowledgements are u64. */
  readonly replyPayload: PayloadCodec<R>;
  /** Most fds that the reply may carry. */
  readonly replyFds: number;
  readonly needs: MessageNeeds;
  readonly action: TunnelAction;
  /** The reply of its own that says "failed", for messages that have such a one. */
  failure?(): R;
  /** The exact number of fds that go with this payload, within `fds`. */
  fdCount?(request: Q): number;
  /** The vring that the message is about, for messages about one vring. */
  vring?(request: Q): number;
}

/** The payload type of a message's request. */
export type RequestOf<D> = D extends Pick<MessageDescriptor<infer Q>, 'request'> ? Q : never;

/** What a row of the table says beyond id, name and payloads. */
export type RowOptions<Q, R> = Partial<
  Pick<
    MessageDescriptor<Q, R>,
    'reply' | 'replyFds' | 'needs' | 'action' | 'fds' | 'fdCount' | 'vring' | 'failure'
  >
>;

/** One row with the common answers filled in: no fds, no reply, no feature, pass. */
export function describeMessage<Q, R>(
  sender: 'frontend' | 'backend',
  id: number,
  name: string,
  payloads: Pick<MessageDescriptor<Q, R>, 'request' | 'replyPayload'>,
  options: RowOptions<Q, R>,
): MessageDescriptor<Q, R> {
  return {
    id,
    name,
    sender,
    ...payloads,
    fds: { min: 0, max: 0 },
    reply: 'none',
    replyFds: 0,
    needs: {},
    action: 'pass',
    ...options,
  };
}

/** Whether the request is answered by a message of its own, with or without REPLY_ACK. */
export function hasOwnReply(descriptor: MessageDescriptor, fdCount: number): boolean {
  return descriptor.reply === 'always' || (descriptor.reply === 'with-fd' && fdCount > 0);
}
