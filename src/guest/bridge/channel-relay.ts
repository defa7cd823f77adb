import { VvuError, errorCode, errorMessage } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { Native, NativeSocket } from '../../native.js';
import {
  backendMessage,
  decodeFrame,
  describeFrame,
  encodeFrame,
  hasOwnReply,
  nativeOrder,
  OutstandingReplies,
  u64,
  vhostUserFraming,
  type Frame,
  type MessageDescriptor,
} from '../../vhost-user/index.js';
import { Outbox } from './outbox.js';

export interface ChannelPorts {
  readonly native: Pick<Native, 'createSocketPair' | 'adoptSocket' | 'closeFd'>;
  readonly log: Logger;
  /** Sends to the frontend. @returns false when there is no room: `flush` tries again */
  toFrontend(message: Buffer): boolean;
  /** Whether REPLY_ACK is in force. */
  acknowledged(): boolean;
}

/** Replies that the frontend may owe; the device allows 64. */
const MAX_OUTSTANDING = 64;
/** Bytes of replies that a backend may leave unread beyond what its socket holds. */
const MAX_QUEUED = 64 * 1024;
/** An acknowledgement that refuses. */
const FAILURE = 1n;

/**
 * The back-end channel of a local backend: a socket whose other end the backend gets with
 * SET_BACKEND_REQ_FD. Its requests go on txq, the replies from rxq go back. What carries fds is
 * refused here, as no message in txq can; the device decides about the rest.
 */
export class ChannelRelay {
  private readonly socket: NativeSocket;
  private readonly outbox: Outbox;
  private readonly outstanding = new OutstandingReplies(MAX_OUTSTANDING);
  private backendFd: number | undefined;
  private closed = false;

  constructor(private readonly ports: ChannelPorts) {
    const [ours, theirs] = ports.native.createSocketPair();
    this.backendFd = theirs;
    try {
      this.socket = ports.native.adoptSocket(ours);
    } catch (error) {
      ports.native.closeFd(ours);
      ports.native.closeFd(theirs);
      throw error;
    }
    this.outbox = new Outbox(this.socket, (message) => ports.toFrontend(message));
    this.socket.start(vhostUserFraming, {
      message: (bytes, fds) => this.fromBackend(bytes, fds),
      closed: (code, detail) => this.ended(code, detail),
    });
  }

  /** The backend's end; ours to close, see `handedOver`. */
  get fd(): number {
    if (this.backendFd === undefined) throw new VvuError('CLOSED', 'bug', 'handed over before');
    return this.backendFd;
  }

  /** Whether something waits for `flush`. */
  get waiting(): boolean {
    return this.outbox.waiting;
  }

  flush(): void {
    this.outbox.flush();
  }

  /** The backend has a duplicate of its end. */
  handedOver(): void {
    if (this.backendFd !== undefined) this.ports.native.closeFd(this.backendFd);
    this.backendFd = undefined;
  }

  /** A message with REPLY of the frontend. One that is not due is dropped. */
  reply(frame: Frame): void {
    const expected = this.outstanding.next;
    if (this.closed || expected?.descriptor.id !== frame.request) {
      this.ports.log.debug({ request: frame.request }, 'reply that is not due dropped');
      return;
    }
    this.trace('reply on the back-end channel', frame, 'LE');
    const codec = expected.own ? expected.descriptor.replyPayload : u64;
    const payload = codec.encode(codec.decode(frame.payload, 'LE'), nativeOrder);
    this.outstanding.settle();
    this.toBackend(encodeFrame({ request: frame.request, reply: true }, payload, nativeOrder));
    this.sendAnswers();
  }

  /** Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.handedOver();
    this.outbox.clear();
    this.outstanding.clear();
    this.socket.close();
  }

  private fromBackend(bytes: Buffer, fds: readonly number[]): void {
    for (const fd of fds) this.ports.native.closeFd(fd);
    if (this.closed) return;
    try {
      const frame = decodeFrame(bytes, nativeOrder);
      this.trace('from the back-end channel', frame, nativeOrder);
      this.forwardOrRefuse(frame, fds.length);
    } catch (error) {
      const fields = { code: errorCode(error), detail: errorMessage(error) };
      this.ports.log.warn(fields, 'back-end channel dropped');
      this.close();
    }
  }

  private forwardOrRefuse(frame: Frame, fdCount: number): void {
    const descriptor = backendMessage(frame.request);
    const own = descriptor !== undefined && hasOwnReply(descriptor, 0);
    const needReply = frame.needReply && this.ports.acknowledged();
    if ((own || needReply) && this.outstanding.full) {
      throw new VvuError('NO_REPLY', 'peer', `the frontend owes ${MAX_OUTSTANDING} replies`);
    }
    if (frame.reply) throw new VvuError('UNEXPECTED_REPLY', 'peer', 'a backend sent a reply');
    try {
      this.forward(frame, fdCount, descriptor, needReply);
    } catch (error) {
      if (!(error instanceof VvuError) || error.scope !== 'request') throw error;
      const fields = { request: descriptor?.name ?? frame.request, detail: error.message };
      this.ports.log.warn(fields, 'back-end request refused');
      if (!own && !needReply) return;
      const payload = u64.encode(FAILURE, nativeOrder);
      const header = { request: frame.request, reply: true };
      this.outstanding.answer(encodeFrame(header, payload, nativeOrder));
      this.sendAnswers();
    }
  }

  private forward(
    frame: Frame,
    fdCount: number,
    descriptor: MessageDescriptor | undefined,
    needReply: boolean,
  ): void {
    if (descriptor === undefined) {
      throw new VvuError('UNKNOWN_REQUEST', 'request', 'not a request that is known');
    }
    if (fdCount > 0) throw new VvuError('BAD_FDS', 'request', `${fdCount} fds cannot pass`);
    const value = descriptor.request.decode(frame.payload, nativeOrder);
    const own = hasOwnReply(descriptor, 0);
    if (own || needReply) this.outstanding.expect({ descriptor, own });
    const payload = descriptor.request.encode(value, 'LE');
    this.outbox.send(encodeFrame({ request: frame.request, needReply }, payload, 'LE'));
  }

  private sendAnswers(): void {
    for (const answer of this.outstanding.takeReady()) this.toBackend(answer);
  }

  private toBackend(message: Buffer): void {
    if (this.closed) return;
    this.socket.send(message);
    if (this.socket.queued <= MAX_QUEUED) return;
    this.ports.log.warn({ code: 'NOT_READ' }, 'back-end channel dropped');
    this.close();
  }

  private ended(code: string, detail: string): void {
    if (this.closed) return;
    this.ports.log.info({ code, detail }, 'back-end channel closed');
    this.close();
  }

  private trace(text: string, frame: Frame, order: typeof nativeOrder): void {
    if (!this.ports.log.isLevelEnabled('trace')) return;
    this.ports.log.trace({ message: describeFrame(frame, order, 'backend') }, text);
  }
}
