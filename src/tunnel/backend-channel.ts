import { errorCode, errorMessage, VvuError } from '../errors.js';
import type { Logger } from '../log.js';
import type { NativeSocket } from '../native.js';
import {
  backendMessage,
  decodeFrame,
  describeFrame,
  encodeFrame,
  OutstandingReplies,
  u64,
  vhostUserFraming,
  type ByteOrder,
  type ExpectedReply,
  type Frame,
} from '../vhost-user/index.js';
import type { BackendRequestPolicy, CheckedBackendRequest } from './backend-request-policy.js';
import type { KindLog } from './kind-log.js';
import type { Negotiation } from './negotiation.js';
import type { FdCloser } from './received-fds.js';

/** The part of a native socket that the channel uses. */
export type ChannelSocket = Pick<
  NativeSocket,
  'start' | 'send' | 'pause' | 'resume' | 'close' | 'queued'
>;

/** How a received fd becomes a socket; see the native addon. */
export interface SocketAdopter extends FdCloser {
  adoptSocket(fd: number): ChannelSocket;
}

export interface BackendChannelOptions {
  /** Byte order on the frontend's sockets. */
  readonly order: ByteOrder;
  readonly native: SocketAdopter;
  readonly negotiation: Negotiation;
  readonly policy: BackendRequestPolicy;
  readonly log: Logger;
  /** For what a guest can cause at will. */
  readonly kinds: KindLog;
  /** Puts a message into rxq; false when there is no buffer. Never throws. */
  toGuest(message: Buffer): boolean;
}

/** Replies that the frontend may owe, and that may wait for rxq buffers: the limit for each. */
const MAX_OWED = 64;
/** Bytes that a frontend may leave unread beyond what its socket holds. */
const MAX_QUEUED = 64 * 1024;
/** An acknowledgement that refuses. */
const FAILURE = 1n;

function failure(request: number): Buffer {
  return encodeFrame({ request, reply: true }, u64.encode(FAILURE, 'LE'), 'LE');
}

/**
 * The back-end channel (SET_BACKEND_REQ_FD): requests of the guest go to the frontend, replies come
 * back. Nothing here ever waits: a frontend that does not read, or does not reply, loses the channel
 * and keeps its connection. Without a channel requests are discarded.
 *
 * A request that is refused, or whose reply can no longer come, is answered by a failure if the
 * guest asked for an answer.
 */
export class BackendChannel {
  /** Requests that were discarded for want of a channel. */
  discarded = 0;
  readonly #options: BackendChannelOptions;
  readonly #outstanding = new OutstandingReplies(MAX_OWED);
  #socket: ChannelSocket | undefined;
  #over = false;
  /** Wait for rxq buffers; meanwhile the channel is not read. */
  #held: Buffer[] = [];

  constructor(options: BackendChannelOptions) {
    this.#options = options;
  }

  /**
   * Opens the channel in the place of an earlier one. Takes ownership of the fd.
   * @throws VvuError `BAD_CHANNEL` of scope `request` for what is no connected stream socket
   */
  open(fd: number): void {
    const { native } = this.#options;
    let socket: ChannelSocket;
    try {
      socket = native.adoptSocket(fd);
    } catch (error) {
      native.closeFd(fd);
      const detail = `the fd of SET_BACKEND_REQ_FD: ${errorMessage(error)}`;
      throw new VvuError('BAD_CHANNEL', 'request', detail, { cause: error });
    }
    this.#end();
    if (this.#over) {
      socket.close();
      return;
    }
    this.#socket = socket;
    socket.start(vhostUserFraming, {
      message: (bytes, fds) => {
        this.#received(socket, bytes, fds);
      },
      closed: (code, detail) => {
        this.#closed(socket, code, detail);
      },
    });
  }

  /** Whether something waits for {@link roomInRxq}; nothing else may take rxq buffers then. */
  get waiting(): boolean {
    return this.#held.length > 0;
  }

  /** Takes a request of the guest. */
  request(frame: Frame): void {
    const { kinds } = this.#options;
    const name = backendMessage(frame.request)?.name ?? String(frame.request);
    if (this.#socket === undefined) {
      this.discarded++;
      kinds.report(`request ${name}`, 'back-end request of the guest discarded: no channel');
      return;
    }
    try {
      this.#forward(this.#socket, frame);
    } catch (error) {
      if (!(error instanceof VvuError) || error.scope !== 'request') {
        throw error;
      }
      const { code, message: detail } = error;
      kinds.report(`request ${name} ${code}`, 'back-end request of the guest refused', { detail });
      this.#refuse(frame);
    }
    this.#sendReady();
  }

  /** Rxq buffers have become available. */
  roomInRxq(): void {
    const held = this.#held;
    while (held[0] !== undefined && this.#options.toGuest(held[0])) {
      held.shift();
    }
    if (held.length === 0) {
      this.#socket?.resume();
    }
  }

  /** The session is over. */
  close(): void {
    const socket = this.#socket;
    this.#over = true;
    this.#socket = undefined;
    this.#held = [];
    this.#outstanding.clear();
    socket?.close();
    if (this.discarded > 0) {
      this.#options.log.debug({ count: this.discarded }, 'back-end requests were discarded');
    }
  }

  #forward(socket: ChannelSocket, frame: Frame): void {
    const { native, policy } = this.#options;
    const checked = policy.check(frame);
    try {
      this.#transmit(socket, frame, checked);
    } finally {
      if (checked.fd !== undefined) native.closeFd(checked.fd);
    }
  }

  #transmit(socket: ChannelSocket, frame: Frame, checked: CheckedBackendRequest): void {
    const { order, negotiation } = this.#options;
    const { descriptor, value, fd } = checked;
    const known = backendMessage(frame.request) !== undefined;
    const own = descriptor.reply === 'always';
    const needReply = frame.needReply && (own || negotiation.replyAck);
    if ((own || needReply) && this.#outstanding.full) {
      const detail = `the frontend owes ${MAX_OWED} replies`;
      this.#drop('NO_REPLY', detail);
      throw new VvuError('NO_REPLY', 'request', detail);
    }
    if (own || needReply) {
      // The reply to a request that is in no table has any payload.
      this.#outstanding.expect({ descriptor, own: own || !known });
    } else if (!known) {
      this.#outstanding.mayExpect(frame.request);
    }
    const payload = descriptor.request.encode(value, order);
    const message = encodeFrame({ request: frame.request, needReply }, payload, order);
    socket.send(message, fd === undefined ? [] : [fd]);
    if (socket.queued > MAX_QUEUED) {
      this.#drop('NOT_READ', `the frontend leaves ${socket.queued} bytes unread`);
    }
  }

  /** Answers a request that goes nowhere, in its turn, if the guest asked for it. */
  #refuse(frame: Frame): void {
    const own = backendMessage(frame.request)?.reply === 'always';
    if (!own && !(frame.needReply && this.#options.negotiation.replyAck)) {
      return;
    }
    if (this.#outstanding.full || this.#held.length >= MAX_OWED) {
      this.#options.kinds.report('answers', 'answers to a guest that takes none are lost');
    } else {
      this.#outstanding.answer(failure(frame.request));
    }
  }

  #received(socket: ChannelSocket, bytes: Buffer, fds: readonly number[]): void {
    const { native, kinds } = this.#options;
    for (const fd of fds) {
      native.closeFd(fd);
    }
    if (socket !== this.#socket) {
      return;
    }
    if (fds.length > 0) {
      // Every request whose reply may carry one is refused.
      kinds.report('fds', 'fds with a reply on the back-end channel closed');
    }
    try {
      this.#toGuest(this.#convert(bytes));
    } catch (error) {
      this.#drop(errorCode(error), errorMessage(error));
    }
    this.#sendReady();
  }

  /** The reply for the guest. @throws VvuError when it is none, or not the one that is due */
  #convert(bytes: Buffer): Buffer {
    const { order, log } = this.#options;
    const frame = decodeFrame(bytes, order);
    if (log.isLevelEnabled('trace')) {
      log.trace({ message: describeFrame(frame, order, 'backend') }, 'from the back-end channel');
    }
    const expected = this.#outstanding.next;
    const header = { request: frame.request, reply: true };
    if (frame.reply && expected?.descriptor.id !== frame.request) {
      if (this.#outstanding.settlePossible(frame.request)) {
        return encodeFrame(header, frame.payload, 'LE');
      }
    }
    if (!frame.reply || expected?.descriptor.id !== frame.request) {
      const due = expected?.descriptor.name ?? 'nothing';
      throw new VvuError(
        'UNEXPECTED_REPLY',
        'peer',
        `message ${frame.request} on the back-end channel where ${due} was due`,
      );
    }
    const codec = codecOf(expected);
    const payload = codec.encode(codec.decode(frame.payload, order), 'LE');
    this.#outstanding.settle();
    return encodeFrame(header, payload, 'LE');
  }

  #toGuest(message: Buffer): void {
    if (this.#held.length === 0 && this.#options.toGuest(message)) {
      return;
    }
    this.#held.push(message);
    this.#socket?.pause();
  }

  #sendReady(): void {
    for (const answer of this.#outstanding.takeReady()) {
      this.#toGuest(answer);
    }
  }

  #closed(socket: ChannelSocket, code: string, detail: string): void {
    if (socket !== this.#socket) {
      return;
    }
    this.#options.log.info({ code, detail }, 'back-end channel closed');
    this.#end();
  }

  #drop(code: string, detail: string): void {
    this.#options.log.warn({ code, detail }, 'back-end channel dropped');
    this.#end();
  }

  /** No reply comes any more; those that are owed become failures. */
  #end(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
    this.#outstanding.abandon(({ descriptor }) => failure(descriptor.id));
    this.#sendReady();
  }
}

function codecOf({ descriptor, own }: ExpectedReply): ExpectedReply['descriptor']['replyPayload'] {
  return own ? descriptor.replyPayload : u64;
}
