import { messageOf } from './errors.js';
import { decodeHeader } from './header.js';
import { formatMessage } from './format.js';
import type { VfioUserLog } from './options.js';
import { MessageParser, type RawMessage } from './parser.js';
import { VFIO_USER_HEADER_SIZE } from './constants.js';
import type { Transport } from './transport.js';

export interface LinkHandlers {
  /** One message; the callee owns its fds. Must not throw. */
  message(message: RawMessage): void;
  /** The transport takes data again after `send` returned false. */
  writable?(): void;
  /** Called exactly once; nothing is delivered or sent afterwards. */
  closed(reason: string, detail: string): void;
}

export interface LinkOptions {
  readonly maxMessageSize: number;
  /**
   * Whether to stop reading while the transport is full, so that a peer that does not read its
   * replies cannot make more of them. For a server; a client goes on, or both would wait.
   */
  readonly pauseWhenFull: boolean;
  readonly log: VfioUserLog;
}

/** Messages in both directions over a transport: framing, backpressure, tracing, one close. */
export class MessageLink {
  readonly #parser: MessageParser;
  #handlers: LinkHandlers | undefined;
  #pumping = false;
  #full = false;
  #closed = false;

  constructor(
    private readonly transport: Transport,
    private readonly options: LinkOptions,
  ) {
    this.#parser = new MessageParser(options.maxMessageSize, (fd) => this.closeFd(fd));
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The transport has more queued than it likes. */
  get full(): boolean {
    return this.#full;
  }

  start(handlers: LinkHandlers): void {
    this.#handlers = handlers;
    this.transport.start({
      data: (bytes, fds) => this.#data(bytes, fds),
      writable: () => this.#writable(),
      closed: (reason, detail) => this.#finish(reason, detail),
    });
  }

  /** Sends one message; the fds stay the caller's. Does nothing after the end. */
  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    if (this.#closed) return;
    this.#trace('out', bytes, fds.length);
    if (!this.#trySend(bytes, fds)) this.#becomeFull();
  }

  closeFd(fd: number): void {
    try {
      this.transport.closeFd(fd);
    } catch (error) {
      this.options.log.warn?.(`cannot close fd ${fd}: ${messageOf(error)}`);
    }
  }

  /** Ends the connection; `closed` is called before this returns. Idempotent. */
  close(reason: string, detail: string): void {
    if (this.#closed) return;
    this.#finish(reason, detail);
    this.transport.close();
  }

  #becomeFull(): void {
    if (this.#full || this.#closed) return;
    this.#full = true;
    if (this.options.pauseWhenFull) this.transport.pause();
  }

  /** A transport that throws is taken for one that broke. */
  #trySend(bytes: Uint8Array, fds: readonly number[]): boolean {
    try {
      return this.transport.send(bytes, fds);
    } catch (error) {
      this.close('SEND_FAILED', messageOf(error));
      return false;
    }
  }

  #data(bytes: Uint8Array, fds: readonly number[]): void {
    if (this.#closed) {
      for (const fd of fds) this.closeFd(fd);
      return;
    }
    this.#parser.push(bytes, fds);
    this.#pump();
  }

  #writable(): void {
    if (!this.#full || this.#closed) return;
    this.#full = false;
    if (this.options.pauseWhenFull) this.transport.resume();
    this.#handlers?.writable?.();
    this.#pump();
  }

  /** Delivers what is complete. Not reentrant: what comes meanwhile is delivered by the outer call. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (!this.#closed && !(this.#full && this.options.pauseWhenFull)) {
        const message = this.#parser.next();
        if (message === undefined) break;
        this.#traceMessage('in', message);
        this.#handlers?.message(message);
      }
    } catch (error) {
      this.close('BAD_STREAM', messageOf(error));
    } finally {
      this.#pumping = false;
    }
  }

  #finish(reason: string, detail: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#parser.dispose();
    this.#handlers?.closed(reason, detail);
  }

  #trace(direction: 'in' | 'out', bytes: Uint8Array, fds: number): void {
    if (this.options.log.trace === undefined) return;
    const payload = bytes.subarray(VFIO_USER_HEADER_SIZE);
    this.options.log.trace(direction, formatMessage(decodeHeader(bytes), payload, fds));
  }

  #traceMessage(direction: 'in' | 'out', message: RawMessage): void {
    this.options.log.trace?.(
      direction,
      formatMessage(message.header, message.payload, message.fds.length),
    );
  }
}
