import { VvuError, errorCode, errorMessage } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { Native, NativeSocket } from '../../native.js';
import {
  decodeFrame,
  describeFrame,
  encodeFrame,
  featureBit,
  featureBits,
  frontendMessage,
  frontendMessages,
  hasOwnReply,
  nativeOrder,
  NO_INFLIGHT,
  OutstandingReplies,
  u64,
  unknownMessage,
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_SHMEM,
  VHOST_USER_SET_BACKEND_REQ_FD,
  VHOST_USER_SET_PROTOCOL_FEATURES,
  vhostUserFraming,
  type ExpectedReply,
  type Frame,
  type Inflight,
  type MessageDescriptor,
} from '../../vhost-user/index.js';
import type { WindowAccess } from '../pci-access.js';
import { adaptRequest } from './adapt.js';
import { ChannelRelay } from './channel-relay.js';
import { InflightExchange, type InflightWindow } from './inflight.js';
import type { Notifiers } from './notifiers.js';
import { Outbox } from './outbox.js';

export type LinkSocket = Pick<NativeSocket, 'start' | 'send' | 'pause' | 'resume' | 'close'>;

export interface LinkPorts {
  readonly native: Pick<Native, 'closeFd' | 'map' | 'createSocketPair' | 'adoptSocket'>;
  readonly log: Logger;
  readonly window: InflightWindow & Pick<WindowAccess, 'remaps'>;
  /** Owned by the link from now on. */
  readonly notifiers: Notifiers;
  /** Sends to the frontend. @returns false when there is no room: `flush` tries again */
  toFrontend(message: Buffer): boolean;
  /** The conversation cannot go on, by fault of the frontend or for want of something here. */
  dropFrontend(reason: string): void;
  /** The backend is gone or broke the protocol; called once, and not after `close`. */
  lost(code: string, detail: string): void;
}

/** Replies that the backend may owe; a device lets far fewer through. */
const MAX_OUTSTANDING = 256;
/** An acknowledgement that refuses. */
const FAILURE = 1n;

/**
 * One connection to a local backend, which serves one connection of a frontend at most: a generation.
 * Messages of the frontend get their fds and go to the backend in order; the backend's replies are
 * checked against what was asked, because the device resets for a reply that does not fit.
 */
export class BackendLink {
  private readonly outstanding = new OutstandingReplies(MAX_OUTSTANDING);
  private readonly outbox: Outbox;
  /** Requests of the backend, once the frontend takes them. */
  private channel: ChannelRelay | undefined;
  private acknowledged = false;
  private full = false;
  private closed = false;
  private readonly inflight: InflightExchange;

  constructor(
    private readonly socket: LinkSocket,
    private readonly ports: LinkPorts,
  ) {
    this.inflight = new InflightExchange(ports.native, ports.window);
    this.outbox = new Outbox(socket, (message) => ports.toFrontend(message));
  }

  /** Reads from the backend from now on. */
  start(): void {
    this.socket.start(vhostUserFraming, {
      message: (bytes, fds) => this.fromBackend(bytes, fds),
      writable: () => (this.full = false),
      closed: (code, detail) => this.lost(code, detail),
    });
  }

  /** Whether requests should wait. */
  get blocked(): boolean {
    return this.full || this.outstanding.full;
  }

  /** Whether messages wait for `flush`. */
  get waiting(): boolean {
    return this.outbox.waiting || this.channel?.waiting === true;
  }

  /** One message of the frontend. Never throws. */
  request(bytes: Buffer): void {
    if (this.closed) return;
    try {
      const frame = decodeFrame(bytes, 'LE');
      if (frame.reply) {
        this.channel?.reply(frame);
        return;
      }
      this.trace('to the backend', frame, 'LE');
      const descriptor = frontendMessage(frame.request);
      if (descriptor === undefined) this.forwardUnknown(frame);
      else this.forwardOrRefuse(frame, descriptor);
    } catch (error) {
      this.ports.log.warn(
        { code: errorCode(error), detail: errorMessage(error) },
        'frontend dropped',
      );
      this.ports.dropFrontend(errorMessage(error));
    }
  }

  /** Sends on what waited for buffers of the driver. */
  flush(): void {
    if (this.closed) return;
    this.outbox.flush();
    this.channel?.flush();
  }

  /** Ends the connection; nothing of it crosses any more. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.outbox.clear();
    this.outstanding.clear();
    this.channel?.close();
    this.ports.notifiers.close();
    this.socket.close();
  }

  /** The device has let it pass; bytes as they are, which x86 and the guest have in one order. */
  private forwardUnknown({ request, needReply, payload }: Frame): void {
    const descriptor = unknownMessage('frontend', request);
    if (needReply) this.outstanding.expect({ descriptor, own: true });
    else this.outstanding.mayExpect(request);
    if (!this.socket.send(encodeFrame({ request, needReply }, payload, nativeOrder))) {
      this.full = true;
    }
  }

  private forwardOrRefuse(frame: Frame, descriptor: MessageDescriptor): void {
    try {
      this.forward(frame, descriptor);
    } catch (error) {
      const payload = refusal(frame, descriptor);
      if (!(error instanceof VvuError) || error.scope !== 'request' || !payload) throw error;
      const { code, message: detail } = error;
      this.ports.log.warn({ request: descriptor.name, code, detail }, 'request refused');
      this.outstanding.answer(encodeFrame({ request: frame.request, reply: true }, payload, 'LE'));
      this.sendAnswers();
    }
  }

  private forward(frame: Frame, descriptor: MessageDescriptor): void {
    const { request, needReply } = frame;
    const value = descriptor.request.decode(frame.payload, 'LE');
    const { window, notifiers } = this.ports;
    const openChannel = (): number => this.openChannel();
    const ports = { window, notifiers, inflight: this.inflight, openChannel };
    const adapted = adaptRequest(descriptor, value, ports);
    const payload = descriptor.request.encode(adapted.value, nativeOrder);
    const message = encodeFrame({ request, needReply }, payload, nativeOrder);
    const own = hasOwnReply(descriptor, adapted.fds.length);
    if (own || needReply) this.outstanding.expect({ descriptor, own });
    if (!this.socket.send(message, adapted.fds)) this.full = true;
    if (request === VHOST_USER_SET_BACKEND_REQ_FD) this.channel?.handedOver();
    if (request === VHOST_USER_SET_PROTOCOL_FEATURES) {
      const ack = featureBit(VHOST_USER_PROTOCOL_F_REPLY_ACK);
      this.acknowledged = ((adapted.value as bigint) & ack) !== 0n;
    }
    if (descriptor.action === 'memory') {
      const detail = descriptor.request.describe(adapted.value);
      this.ports.log.info({ request: descriptor.name, regions: detail }, 'memory table');
    }
  }

  /** @returns the backend's end */
  private openChannel(): number {
    this.channel?.close();
    this.channel = new ChannelRelay({
      ...{ native: this.ports.native, log: this.ports.log },
      toFrontend: (message) => this.ports.toFrontend(message),
      acknowledged: () => this.acknowledged,
    });
    return this.channel.fd;
  }

  private fromBackend(bytes: Buffer, fds: readonly number[]): void {
    try {
      if (this.closed) return;
      const reply = this.checked(bytes, fds);
      this.outbox.send(reply);
      this.sendAnswers();
    } catch (error) {
      this.lost('BAD_REPLY', errorMessage(error));
    } finally {
      // That of an in-flight buffer has done its duty; every other feature with fds is masked.
      for (const fd of fds) this.ports.native.closeFd(fd);
    }
  }

  private checked(bytes: Buffer, fds: readonly number[]): Buffer {
    const frame = decodeFrame(bytes, nativeOrder);
    this.trace('from the backend', frame, nativeOrder);
    const expected = this.outstanding.next;
    const { request } = frame;
    if (frame.reply && expected?.descriptor.id !== request) {
      const possible = this.outstanding.settlePossible(request);
      if (possible) return encodeFrame({ request, reply: true }, frame.payload, 'LE');
    }
    if (!frame.reply || expected?.descriptor.id !== frame.request) {
      const wanted = expected?.descriptor.name ?? 'nothing';
      throw badReply(`message ${frame.request} where ${wanted} was expected`);
    }
    const codec = expected.own ? expected.descriptor.replyPayload : u64;
    const decoded = offer(expected, codec.decode(frame.payload, nativeOrder), this.ports.window);
    const inflight = expected.own && expected.descriptor.action === 'inflight';
    if (fds.length > (inflight ? 1 : 0)) throw badReply(`a message with ${fds.length} fds`);
    // The codec is that of the inflight description, which is what it gives.
    const value = inflight ? this.exchange(decoded as Inflight, fds[0]) : decoded;
    this.outstanding.settle();
    return encodeFrame({ request: frame.request, reply: true }, codec.encode(value, 'LE'), 'LE');
  }

  /** The backend's answer to GET_INFLIGHT_FD; it goes on with the device's buffer. */
  private exchange(answer: Inflight, fd: number | undefined): Inflight {
    const set = this.inflight.answered(answer, fd);
    if (set === undefined) return NO_INFLIGHT;
    const { id, request } = frontendMessages.SET_INFLIGHT_FD;
    const payload = request.encode(set.value, nativeOrder);
    if (!this.socket.send(encodeFrame({ request: id }, payload, nativeOrder), [set.fd])) {
      this.full = true;
    }
    return { ...answer, mmapOffset: 0n };
  }

  private sendAnswers(): void {
    for (const answer of this.outstanding.takeReady()) this.outbox.send(answer);
  }

  private lost(code: string, detail: string): void {
    if (this.closed) return;
    this.close();
    this.ports.lost(code, detail);
  }

  private trace(text: string, frame: Frame, order: typeof nativeOrder): void {
    if (!this.ports.log.isLevelEnabled('trace')) return;
    this.ports.log.trace({ message: describeFrame(frame, order) }, text);
  }
}

/** What tells the frontend of a refusal, where there is something that does. */
function refusal(frame: Frame, descriptor: MessageDescriptor): Buffer | undefined {
  if (descriptor.name === 'GET_INFLIGHT_FD') {
    return descriptor.replyPayload.encode(NO_INFLIGHT, 'LE');
  }
  return frame.needReply && descriptor.reply === 'none' ? u64.encode(FAILURE, 'LE') : undefined;
}

/**
 * Takes out of the backend's offer what cannot be bridged: where a log would be trapped, the
 * frontend must know before it migrates; its SET_LOG_BASE would cost it the connection. A file of the
 * backend's own (SHMEM) is not the device's to share.
 */
function offer(
  { descriptor, own }: ExpectedReply,
  value: unknown,
  window: Pick<WindowAccess, 'remaps'>,
): unknown {
  const offered = own && descriptor.name === 'GET_PROTOCOL_FEATURES';
  if (!offered || typeof value !== 'bigint') return value;
  const log = window.remaps ? 0n : featureBits(VHOST_USER_PROTOCOL_F_LOG_SHMFD);
  return value & ~(log | featureBits(VHOST_USER_PROTOCOL_F_SHMEM));
}

function badReply(detail: string): VvuError {
  return new VvuError('BAD_REPLY', 'peer', detail);
}
