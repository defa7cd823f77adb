import { errorCode, errorMessage, VvuError } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import type { NativeSocket } from '../native.js';
import {
  decodeFrame,
  describeFrame,
  frontendMessage,
  nativeOrder,
  vhostUserFraming,
  type ByteOrder,
  type Frame,
  type OutstandingReplies,
} from '../vhost-user/index.js';
import type { BackendChannel, SocketAdopter } from './backend-channel.js';
import { startConversation } from './conversation.js';
import type { Answer, GuestReplies } from './guest-replies.js';
import type { InflightBuffers } from './inflight.js';
import type { TunnelRules } from './policy.js';
import type { TunnelBackend, TunnelSession } from './ports.js';
import { ReceivedFds } from './received-fds.js';
import type { Handled, RequestHandler } from './request-handler.js';

/** The part of a native socket that a session uses. */
export type SessionSocket = Pick<
  NativeSocket,
  'start' | 'send' | 'pause' | 'resume' | 'watchHangup' | 'close'
>;

export interface SessionOptions {
  /** A connected socket that was not started; the session owns it. */
  readonly socket: SessionSocket;
  readonly backend: TunnelBackend;
  readonly native: SocketAdopter;
  readonly log?: Logger;
  /** Byte order on the socket, the machine's by default. */
  readonly order?: ByteOrder;
  /** Regions that a frontend may have with CONFIGURE_MEM_SLOTS, default 64. */
  readonly maxMemorySlots?: number;
  readonly rules?: TunnelRules;
  /** Called once when the session is over, before the backend is told. */
  readonly onClosed?: () => void;
}

const DEFAULT_MEMORY_SLOTS = 64;
/** Messages that a socket may still deliver after `pause`, having read them before. */
const MAX_INBOX = 16;

interface Received {
  readonly bytes: Buffer;
  readonly fds: ReceivedFds;
}

/**
 * One frontend connection. Requests go to the guest one by one, in order; a memory request holds
 * up those behind it until the window shows the new table. Nothing is buffered beyond one message
 * for rxq: whatever cannot go on leaves the frontend's socket unread.
 *
 * A refused request is logged. With REPLY_ACK and need_reply the frontend gets a non-zero
 * acknowledgement, in its turn, and the guest sees nothing; otherwise nobody would know, so the
 * connection is dropped, as it is when the request waits for a reply of its own.
 *
 * A frontend that leaves while it is not read, for want of an rxq buffer or of the guest's replies, is
 * noticed at once; requests that nobody has read are lost with it.
 */
export class FrontendSession implements TunnelSession {
  onRoom: (() => void) | undefined;
  readonly #socket: SessionSocket;
  readonly #backend: TunnelBackend;
  readonly #native: SocketAdopter;
  readonly #log: Logger;
  readonly #order: ByteOrder;
  readonly #onClosed: (() => void) | undefined;
  readonly #outstanding: OutstandingReplies;
  readonly #requests: RequestHandler;
  readonly #replies: GuestReplies;
  readonly #inflight: InflightBuffers;
  readonly #channel: BackendChannel;
  #phase: 'new' | 'open' | 'closed' = 'new';
  #inbox: Received[] = [];
  /** Waits for an rxq buffer. */
  #held: Buffer | undefined;
  /** A memory request is being carried out. */
  #busy = false;
  /** The socket's output is full. */
  #full = false;
  #paused = false;
  /** The frontend has left, and what it sent before is unread. */
  #hungUp = false;
  #pumping = false;

  constructor(options: SessionOptions) {
    this.#socket = options.socket;
    this.#backend = options.backend;
    this.#native = options.native;
    this.#log = options.log ?? silentLogger;
    this.#order = options.order ?? nativeOrder;
    this.#onClosed = options.onClosed;
    const conversation = startConversation({
      ...{ backend: options.backend, native: options.native, log: this.#log, order: this.#order },
      maxMemorySlots: options.maxMemorySlots ?? DEFAULT_MEMORY_SLOTS,
      rules: options.rules ?? {},
      toGuest: (message) => this.#fromChannel(message),
    });
    this.#outstanding = conversation.outstanding;
    this.#inflight = conversation.inflight;
    this.#channel = conversation.channel;
    this.#requests = conversation.requests;
    this.#replies = conversation.replies;
  }

  start(): void {
    if (this.#phase !== 'new') {
      return;
    }
    this.#phase = 'open';
    this.#socket.start(vhostUserFraming, {
      message: (bytes, fds) => {
        this.#received(bytes, new ReceivedFds(fds, this.#native));
      },
      writable: () => {
        this.#writable();
      },
      closed: (code, detail) => {
        this.#finish(code, detail);
      },
    });
    this.#socket.watchHangup(() => {
      this.#hungUp = true;
      this.#pump();
    });
  }

  roomInRxq(): void {
    const message = this.#held;
    if (this.#phase !== 'open' || (message === undefined && !this.#channel.waiting)) {
      return;
    }
    // One after the other, and only until one fails: each failure asks for the kick that the next
    // success would call off again.
    this.#held = undefined;
    this.#channel.roomInRxq();
    if (message !== undefined && this.#isOpen()) {
      if (this.#channel.waiting) {
        this.#held = message;
      } else {
        this.#guarded(() => {
          this.#toGuest(message);
        });
      }
    }
    this.#pump();
  }

  fromGuest(message: Uint8Array): boolean {
    if (this.#phase !== 'open') {
      this.#log.debug({}, 'message of the guest without a frontend, dropped');
      return true;
    }
    const reply = this.#replies.take(message);
    if (reply !== undefined) {
      this.#sendReply(reply);
      this.#sendReady();
      this.#pump();
    }
    return !this.#full;
  }

  close(reason: string): void {
    this.#finish('CLOSED', reason);
  }

  #received(bytes: Buffer, fds: ReceivedFds): void {
    if (this.#phase !== 'open') {
      fds.close();
      return;
    }
    this.#inbox.push({ bytes, fds });
    if (this.#inbox.length > MAX_INBOX) {
      this.#fail('NOT_PAUSED', 'the socket went on delivering after pause');
      return;
    }
    this.#pump();
  }

  #writable(): void {
    if (this.#phase === 'open') {
      this.#full = false;
      this.#pump();
      this.onRoom?.();
    }
  }

  get #blocked(): boolean {
    return (
      this.#phase !== 'open' ||
      this.#busy ||
      this.#full ||
      this.#held !== undefined ||
      this.#channel.waiting ||
      this.#outstanding.full
    );
  }

  /** Processes what has come as far as it can go, then reads on or stops reading. */
  #pump(): void {
    if (this.#pumping) {
      return;
    }
    this.#pumping = true;
    while (!this.#blocked) {
      const next = this.#inbox.shift();
      if (next === undefined) {
        break;
      }
      this.#process(next);
    }
    this.#pumping = false;
    const pause = this.#blocked;
    if (this.#hungUp && pause && !this.#busy) {
      // The guest may have no buffers for long, and the next frontend shall not wait for them.
      this.#finish('EOF', 'the frontend left while its requests waited');
    }
    if (this.#phase === 'open' && pause !== this.#paused) {
      this.#paused = pause;
      if (pause) {
        this.#socket.pause();
      } else {
        this.#socket.resume();
      }
    }
  }

  #process({ bytes, fds }: Received): void {
    try {
      this.#guarded(() => {
        const frame = decodeFrame(bytes, this.#order);
        if (this.#log.isLevelEnabled('trace')) {
          this.#log.trace({ message: describeFrame(frame, this.#order) }, 'from the frontend');
        }
        this.#handle(frame, fds);
      });
    } finally {
      fds.close();
    }
  }

  #handle(frame: Frame, fds: ReceivedFds): void {
    this.#orRefuse(frame, fds.count, () => {
      const handled = this.#requests.handle(frame, fds);
      if (handled instanceof Promise) {
        this.#await(frame, fds.count, handled);
      } else {
        this.#conclude(handled);
      }
    });
  }

  /** Requests behind this one wait until the guest's window is ready. */
  #await(frame: Frame, fdCount: number, pending: Promise<Handled>): void {
    this.#busy = true;
    const resume = (work: () => void): void => {
      this.#busy = false;
      if (this.#phase === 'open') {
        this.#guarded(() => {
          this.#orRefuse(frame, fdCount, work);
        });
        this.#pump();
      }
    };
    pending.then(
      (handled) => {
        resume(() => {
          this.#conclude(handled);
        });
      },
      (error: unknown) => {
        resume(() => {
          throw error;
        });
      },
    );
  }

  #conclude(handled: Handled): void {
    if ('forGuest' in handled) {
      this.#toGuest(handled.forGuest);
    } else if (handled.answer !== undefined) {
      this.#answer(handled.answer);
    }
  }

  /** An answer of the device's own, behind the replies that the guest still owes. */
  #answer(answer: Buffer): void {
    this.#outstanding.answer(answer);
    this.#sendReady();
  }

  #toGuest(message: Buffer): void {
    // The device may close this session from inside the call, and then nothing is held.
    if (!this.#backend.toGuest(message) && this.#isOpen()) {
      this.#held = message;
    }
  }

  /** A reply on the back-end channel; false when it has to wait for {@link roomInRxq}. */
  #fromChannel(message: Buffer): boolean {
    let taken = true;
    if (this.#isOpen()) {
      if (this.#held !== undefined) {
        return false;
      }
      this.#guarded(() => {
        taken = this.#backend.toGuest(message);
      });
    }
    return taken;
  }

  #isOpen(): boolean {
    return this.#phase === 'open';
  }

  /** Runs `work`; an error of scope `request` becomes a refusal. */
  #orRefuse(frame: Frame, fdCount: number, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof VvuError) || error.scope !== 'request') {
        throw error;
      }
      this.#refuse(frame, fdCount, error);
    }
  }

  #refuse(frame: Frame, fdCount: number, { code, message: detail }: VvuError): void {
    const answer = this.#requests.refusal(frame, fdCount, code);
    const request = frontendMessage(frame.request)?.name ?? frame.request;
    this.#log.warn({ request, code, detail, dropped: answer === undefined }, 'request refused');
    if (answer === undefined) {
      this.#finish(code, detail);
    } else {
      this.#answer(answer);
    }
  }

  /** Runs `work`; an error that nobody handled ends the session, never the process. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fail(errorCode(error), errorMessage(error));
    }
  }

  #sendReady(): void {
    for (const answer of this.#outstanding.takeReady()) {
      this.#send(answer);
    }
  }

  #sendReply({ bytes, fd }: Answer): void {
    try {
      this.#send(bytes, fd === undefined ? [] : [fd]);
    } finally {
      if (fd !== undefined) this.#native.closeFd(fd);
    }
  }

  #send(message: Buffer, fds: readonly number[] = []): void {
    if (this.#isOpen() && !this.#socket.send(message, fds)) {
      this.#full = true;
    }
  }

  #fail(code: string, detail: string): void {
    if (this.#phase !== 'closed') {
      this.#log.warn({ code, detail }, 'frontend dropped');
    }
    this.#finish(code, detail);
  }

  #finish(code: string, detail: string): void {
    if (this.#phase === 'closed') {
      return;
    }
    this.#phase = 'closed';
    this.#held = undefined;
    this.#outstanding.clear();
    this.#inflight.close();
    this.#channel.close();
    for (const { fds } of this.#inbox.splice(0)) {
      fds.close();
    }
    this.#socket.close();
    this.#onClosed?.();
    this.#backend.sessionClosed(this, code, detail);
  }
}
