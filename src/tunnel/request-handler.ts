import { VvuError } from '../errors.js';
import {
  encodeFrame,
  frontendMessage,
  hasOwnReply,
  NO_INFLIGHT,
  u64,
  type Inflight,
  type LogBase,
  type OutstandingReplies,
  type ByteOrder,
  type Frame,
  type FrontendRequest,
  type MessageDescriptor,
} from '../vhost-user/index.js';
import type { BackendChannel } from './backend-channel.js';
import type { FrontendMemory, MemoryRequest } from './frontend-memory.js';
import type { InflightBuffers } from './inflight.js';
import type { Negotiation } from './negotiation.js';
import { refusesRequest } from './policy.js';
import type { TunnelBackend } from './ports.js';
import type { ReceivedFds } from './received-fds.js';
import type { CheckedRequest, RequestPolicy } from './request-policy.js';

export interface RequestHandlerOptions {
  /** Byte order on the frontend's socket. */
  readonly order: ByteOrder;
  readonly backend: TunnelBackend;
  readonly negotiation: Negotiation;
  readonly memory: FrontendMemory;
  readonly inflight: InflightBuffers;
  readonly policy: RequestPolicy;
  readonly outstanding: OutstandingReplies;
  readonly channel: Pick<BackendChannel, 'open'>;
}

/** What comes of a request. */
export type Handled =
  | { readonly forGuest: Buffer }
  /** The guest need not know; the frontend gets this answer in its turn, if it asked for one. */
  | { readonly answer: Buffer | undefined };

/** Acknowledgements of REPLY_ACK: "zero for success, non-zero otherwise". */
const SUCCESS = 0n;
const FAILURE = 1n;

/** Frontend requests on their way to the guest: checked, carried out, made little-endian. */
export class RequestHandler {
  /** SET_OWNER has passed: frontends that repeat it per queue pair mean the same owner. */
  #owned = false;

  constructor(private readonly options: RequestHandlerOptions) {}

  /**
   * Does the host's part of a request.
   * @param fds those of the message; what is left in it is for the caller to close
   * @returns what follows from it, later when the guest's window must change first
   * @throws VvuError of scope `request` (see {@link refusal}) or `peer`
   */
  handle(frame: Frame, fds: ReceivedFds): Handled | Promise<Handled> {
    if (frame.reply) {
      throw new VvuError('UNEXPECTED_REPLY', 'peer', 'a frontend sent a reply');
    }
    const checked = this.options.policy.check(frame, fds.count);
    const { descriptor, request } = checked;
    if (request === undefined) {
      return { forGuest: this.#unknown(frame, descriptor) };
    }
    switch (refusesRequest(descriptor.name) ? 'unservable' : descriptor.action) {
      case 'pass':
        if (this.#isRepeatedOwner(request)) return { answer: this.#acknowledge(frame, SUCCESS) };
        break;
      case 'features':
      case 'protocol-features':
      case 'cap':
        break;
      case 'memory':
        return this.options.memory
          .apply(request as MemoryRequest, fds)
          .then((shown) =>
            shown === undefined
              ? { answer: this.#acknowledge(frame, SUCCESS) }
              : this.#forGuest(frame, checked, shown, fds.count),
          );
      case 'log-base':
        return this.#log(request, fds).then((shown) =>
          this.#forGuest(frame, checked, shown, fds.count),
        );
      case 'inflight':
        return this.#inflight(request, fds).then((shown) =>
          this.#forGuest(frame, checked, shown, fds.count),
        );
      case 'backend-channel': {
        const [fd = -1] = fds.takeAll();
        this.options.channel.open(fd);
        break;
      }
      case 'kick':
      case 'call':
      case 'err':
      case 'log-fd':
        this.#bind(request, fds);
        break;
      default:
        throw new VvuError('NOT_SERVED', 'request', `${descriptor.name} cannot be tunnelled`);
    }
    return this.#forGuest(frame, checked, request.value, fds.count);
  }

  /**
   * The answer that tells a frontend of a refusal: the failure that its reply has room for, or else
   * the acknowledgement that it asked for with REPLY_ACK and need_reply. GET_INFLIGHT_FD's own reply
   * can say that there is no buffer.
   */
  refusal(frame: Frame, fdCount: number, code: string): Buffer | undefined {
    const { order } = this.options;
    const descriptor = frontendMessage(frame.request);
    if (code === 'NO_INFLIGHT' && descriptor !== undefined) {
      const payload = descriptor.replyPayload.encode(NO_INFLIGHT, order);
      return encodeFrame({ request: frame.request, reply: true }, payload, order);
    }
    if (descriptor === undefined || !hasOwnReply(descriptor, fdCount)) {
      return this.#acknowledge(frame, FAILURE);
    }
    if (descriptor.failure === undefined) {
      return undefined;
    }
    const payload = descriptor.replyPayload.encode(descriptor.failure(), order);
    return encodeFrame({ request: frame.request, reply: true }, payload, order);
  }

  /** The acknowledgement of a request that has no reply of its own, if one was asked for. */
  #acknowledge({ request, needReply }: Frame, result: bigint): Buffer | undefined {
    const { negotiation, order } = this.options;
    if (!needReply || !negotiation.replyAck) {
      return undefined;
    }
    return encodeFrame({ request, reply: true }, u64.encode(result, order), order);
  }

  /** Backends may refuse a second owner, as there is none: it is the same frontend. */
  #isRepeatedOwner({ name }: FrontendRequest): boolean {
    const repeated = name === 'SET_OWNER' && this.#owned;
    this.#owned = name === 'SET_OWNER' || (name !== 'RESET_OWNER' && this.#owned);
    return repeated;
  }

  /** @throws VvuError of scope `request`; an earlier log stays */
  #log(request: FrontendRequest, fds: ReceivedFds): Promise<LogBase> {
    if (request.name !== 'SET_LOG_BASE' || !('mmapSize' in request.value) || fds.count === 0) {
      const what = 'SET_LOG_BASE takes a size, an offset and the fd of the log';
      throw new VvuError('BAD_FDS', 'request', what);
    }
    const { mmapSize, mmapOffset } = request.value;
    const [fd = -1] = fds.takeAll();
    const shown = this.options.backend.setLog({ size: mmapSize, mmapOffset, fd });
    return shown.then((place) => ({ mmapSize, mmapOffset: place }));
  }

  async #inflight(request: FrontendRequest, fds: ReceivedFds): Promise<Inflight | undefined> {
    const { inflight } = this.options;
    if (request.name === 'GET_INFLIGHT_FD') return inflight.provide(request.value);
    return request.name === 'SET_INFLIGHT_FD' ? inflight.show(request.value, fds) : undefined;
  }

  #bind(request: FrontendRequest, fds: ReceivedFds): void {
    const { backend } = this.options;
    const [fd] = fds.takeAll();
    switch (request.name) {
      case 'SET_VRING_KICK':
        backend.bindKick(request.value.index, fd);
        break;
      case 'SET_VRING_CALL':
        backend.bindDoorbell('call', request.value.index, fd);
        break;
      case 'SET_VRING_ERR':
        backend.bindDoorbell('err', request.value.index, fd);
        break;
      default:
        backend.bindDoorbell('log', 0, fd);
        break;
    }
  }

  /** Its reply has any payload. One that was not asked for may come all the same. */
  #unknown({ request, needReply, payload }: Frame, descriptor: MessageDescriptor): Buffer {
    const { negotiation, outstanding } = this.options;
    const asked = needReply && negotiation.replyAck;
    if (asked) {
      outstanding.expect({ descriptor, own: true });
    } else {
      outstanding.mayExpect(request);
    }
    return encodeFrame({ request, needReply: asked }, payload, 'LE');
  }

  /** The request with `value` as its payload; notes which reply must come. */
  #forGuest(
    frame: Frame,
    { descriptor }: CheckedRequest,
    value: unknown,
    fdCount: number,
  ): { forGuest: Buffer } {
    const { negotiation, outstanding } = this.options;
    const own = hasOwnReply(descriptor, fdCount);
    // Without REPLY_ACK a need_reply means nothing, but some backends would answer it.
    // Its reply must come, yet some backends send it only to NEED_REPLY.
    const asked = frame.needReply || descriptor.name === 'IOTLB_MSG';
    const needReply = asked && (own || negotiation.replyAck);
    if (own || needReply) {
      outstanding.expect({ descriptor, own });
    }
    const payload = descriptor.request.encode(value, 'LE');
    return { forGuest: encodeFrame({ request: frame.request, needReply }, payload, 'LE') };
  }
}
