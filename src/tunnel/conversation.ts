import type { Logger } from '../log.js';
import { OutstandingReplies, type ByteOrder } from '../vhost-user/index.js';
import { BackendChannel, type SocketAdopter } from './backend-channel.js';
import { BackendRequestPolicy } from './backend-request-policy.js';
import { FrontendMemory } from './frontend-memory.js';
import { GuestReplies } from './guest-replies.js';
import { InflightBuffers } from './inflight.js';
import { KindLog } from './kind-log.js';
import { Negotiation } from './negotiation.js';
import { protocolFeatureMask, type ProtocolFeatureName, type TunnelRules } from './policy.js';
import type { TunnelBackend } from './ports.js';
import { RequestHandler } from './request-handler.js';
import { RequestPolicy } from './request-policy.js';
import { UnknownRequestPolicy } from './unknown-requests.js';

export interface ConversationOptions {
  readonly backend: TunnelBackend;
  readonly native: SocketAdopter;
  readonly log: Logger;
  readonly order: ByteOrder;
  readonly maxMemorySlots: number;
  readonly rules: TunnelRules;
  /** A reply on the back-end channel; false when it has to wait for an rxq buffer. */
  readonly toGuest: (message: Buffer) => boolean;
}

/** What one connection has agreed upon, owes and shows, and who treats its messages. */
export interface Conversation {
  readonly outstanding: OutstandingReplies;
  readonly inflight: InflightBuffers;
  readonly channel: BackendChannel;
  readonly requests: RequestHandler;
  readonly replies: GuestReplies;
}

/** Replies that may be owed to the frontend before its socket is left unread. */
const MAX_OUTSTANDING = 16;

/** All parts of a new connection, knowing each other. */
export function startConversation(options: ConversationOptions): Conversation {
  const { backend, native, log, order, maxMemorySlots, toGuest } = options;
  const { unknownRequests = 'pass', hiddenFeatures = [], shareMemory = false } = options.rules;
  const { maxVhostQueues } = backend;
  const hidden: readonly ProtocolFeatureName[] = shareMemory ? [] : ['SHMEM'];
  const mask = protocolFeatureMask([...hiddenFeatures, ...hidden]);
  const negotiation = new Negotiation(order, mask);
  const outstanding = new OutstandingReplies(MAX_OUTSTANDING);
  const inflight = new InflightBuffers(backend, native);
  const shared = { order, negotiation, outstanding, inflight, log, kinds: new KindLog(log) };
  const unknown = new UnknownRequestPolicy({ treatment: unknownRequests, ...shared });
  const requestsOfGuest = new BackendRequestPolicy(backend, negotiation, unknown);
  const channel = new BackendChannel({ ...shared, native, policy: requestsOfGuest, toGuest });
  const memory = new FrontendMemory(backend, maxMemorySlots);
  const policy = new RequestPolicy(order, maxVhostQueues, negotiation, memory, unknown);
  const requests = new RequestHandler({ ...shared, backend, channel, memory, policy });
  const replies = new GuestReplies({ ...shared, maxVhostQueues, maxMemorySlots, channel });
  return { outstanding, inflight, channel, requests, replies };
}
