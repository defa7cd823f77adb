import { messageOf, VfioUserError } from './errors.js';
import { errnoName } from './errno.js';
import { encodeCommand, isError, type MessageHeader } from './header.js';
import type { MessageDescriptor } from './messages.js';
import type { RawMessage } from './parser.js';

/** A decoded reply. The fds are owned by whoever asked. */
export interface Answer<R> {
  readonly reply: R;
  readonly fds: number[];
}

/** As much of a descriptor as a reply needs. */
type ReplyOf<R> = Pick<MessageDescriptor<unknown, R>, 'name' | 'id' | 'reply' | 'maxReplyFds'>;

interface Pending {
  /** Owns the message's fds; must not throw. */
  settle(message: RawMessage): void;
  fail(error: VfioUserError): void;
}

export interface RequesterOptions {
  readonly send: (bytes: Uint8Array, fds: readonly number[]) => void;
  readonly closeFd: (fd: number) => void;
  readonly maxOutstanding: number;
  readonly timeoutMs: number;
  /** The peer has left too many requests unanswered. */
  readonly onUnresponsive: () => void;
}

const ID_SPACE = 0x1_0000;

/**
 * Requests of one side that wait for their replies: ids, timeouts, bounds.
 *
 * The id of a request that timed out is not used again until its reply came after all; when as many
 * have been given up as may be outstanding, the peer is taken for dead.
 */
export class Requester {
  readonly #pending = new Map<number, Pending>();
  readonly #abandoned = new Set<number>();
  #nextId = 0;
  #ended: VfioUserError | undefined;

  constructor(private readonly options: RequesterOptions) {}

  get outstanding(): number {
    return this.#pending.size;
  }

  /**
   * Sends a command and waits for its reply. The request's fds stay the caller's.
   * @throws VfioUserError (rejects) EBUSY, ETIMEDOUT, ENOTCONN, EPROTO, or the peer's errno
   */
  request<Q, R>(
    descriptor: MessageDescriptor<Q, R>,
    value: Q,
    fds: readonly number[] = [],
  ): Promise<Answer<R>> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) throw this.#ended;
      if (this.#pending.size >= this.options.maxOutstanding) {
        throw new VfioUserError('EBUSY', `${this.#pending.size} requests are outstanding`);
      }
      const payload = descriptor.request.encode(value);
      const id = this.allocateId();
      const timer = setTimeout(() => this.#timedOut(id, descriptor.name), this.options.timeoutMs);
      this.#pending.set(id, {
        settle: (message) => {
          clearTimeout(timer);
          try {
            resolve(this.#openReply(descriptor, message));
          } catch (error) {
            for (const fd of message.fds.splice(0)) this.options.closeFd(fd);
            reject(error instanceof Error ? error : new Error(messageOf(error)));
          }
        },
        fail: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.options.send(encodeCommand(id, descriptor.id, payload), fds);
    });
  }

  /** Sends a command that asks for no reply. @throws VfioUserError ENOTCONN */
  post<Q>(descriptor: MessageDescriptor<Q>, value: Q, fds: readonly number[] = []): void {
    if (this.#ended !== undefined) throw this.#ended;
    const payload = descriptor.request.encode(value);
    this.options.send(encodeCommand(this.allocateId(), descriptor.id, payload, true), fds);
  }

  /** A reply came. Takes its fds. @returns false for a reply that nobody waits for */
  settle(message: RawMessage): boolean {
    const { id } = message.header;
    const pending = this.#pending.get(id);
    if (pending !== undefined) {
      this.#pending.delete(id);
      pending.settle(message);
      return true;
    }
    for (const fd of message.fds) this.options.closeFd(fd);
    return this.#abandoned.delete(id);
  }

  /** Rejects everything that is outstanding, and all later requests. */
  end(error: VfioUserError): void {
    this.#ended ??= error;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const request of pending) request.fail(error);
  }

  /** An id that no request waits for. */
  allocateId(): number {
    do {
      this.#nextId = (this.#nextId + 1) % ID_SPACE;
    } while (this.#pending.has(this.#nextId) || this.#abandoned.has(this.#nextId));
    return this.#nextId;
  }

  /** Keeps an id from being used again before its late reply came. */
  abandon(id: number): void {
    this.#abandoned.add(id);
    if (this.#abandoned.size >= this.options.maxOutstanding) this.options.onUnresponsive();
  }

  #timedOut(id: number, name: string): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.fail(
      new VfioUserError('ETIMEDOUT', `no reply to ${name} within ${this.options.timeoutMs} ms`),
    );
    this.abandon(id);
  }

  #openReply<R>(descriptor: ReplyOf<R>, message: RawMessage): Answer<R> {
    const reply = decodeReply(descriptor, message.header, message.payload);
    if (message.fds.length > descriptor.maxReplyFds) {
      throw new VfioUserError(
        'EPROTO',
        `${message.fds.length} fds in a reply to ${descriptor.name}`,
      );
    }
    return { reply, fds: message.fds };
  }
}

/**
 * The value of a reply.
 * @throws VfioUserError the peer's errno (`remote`), or EPROTO for a reply that is none
 */
export function decodeReply<R>(
  descriptor: Omit<ReplyOf<R>, 'maxReplyFds'>,
  header: MessageHeader,
  payload: Uint8Array,
): R {
  if (header.command !== descriptor.id) {
    throw new VfioUserError(
      'EPROTO',
      `reply to command ${header.command} where ${descriptor.name} was asked`,
    );
  }
  if (isError(header)) {
    const text = `${descriptor.name} was refused with ${errnoName(header.error)}`;
    throw new VfioUserError(header.error, text, { remote: true });
  }
  try {
    return descriptor.reply.decode(payload);
  } catch (error) {
    throw new VfioUserError('EPROTO', `reply to ${descriptor.name}: ${messageOf(error)}`);
  }
}
