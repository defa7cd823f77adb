import { VfioUserError } from './errors.js';
import { commandProblem, wantsReply } from './header.js';
import { messageById, type Direction, type MessageDescriptor } from './messages.js';
import type { RawMessage } from './parser.js';

/** What a handler answers with. */
export interface Outcome<R> {
  readonly reply: R;
  /** Sent with the reply; they stay the handler's. */
  readonly fds?: readonly number[];
  /** Sends only so many bytes of the payload (a client's short argsz). */
  readonly truncate?: number;
}

/** The same, encoded. */
export interface EncodedOutcome {
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
}

/**
 * Handles one decoded request. It takes the fds that it keeps out of the array; the rest is closed
 * by the caller. A throw becomes an error reply.
 */
export type Handler<Q, R> = (request: Q, fds: number[]) => Outcome<R>;

type ErasedHandler = (message: RawMessage) => EncodedOutcome;

/** From commands to handlers: checks the frame and the fds, decodes, calls, encodes. */
export class Dispatcher {
  readonly #handlers = new Map<number, ErasedHandler>();

  constructor(private readonly direction: Direction) {}

  on<Q, R>(descriptor: MessageDescriptor<Q, R>, handler: Handler<Q, R>): void {
    this.#handlers.set(descriptor.id, ({ payload, fds }) => {
      const outcome = handler(descriptor.request.decode(payload), fds);
      const bytes = descriptor.reply.encode(outcome.reply);
      return { payload: bytes.subarray(0, outcome.truncate), fds: outcome.fds ?? [] };
    });
  }

  /**
   * @param maxFds what this side announced as `max_msg_fds`
   * @throws VfioUserError with the errno to answer
   */
  dispatch(message: RawMessage, maxFds: number): EncodedOutcome {
    checkCommand(message, this.direction, maxFds);
    const handler = this.#handlers.get(message.header.command);
    if (handler === undefined) {
      throw new VfioUserError('ENOTSUP', `command ${message.header.command} is not supported`);
    }
    return handler(message);
  }
}

/**
 * Checks everything about a command but its payload.
 * @throws VfioUserError EINVAL: reserved flags, wrong direction, too many fds; ENOSYS: no such command
 */
export function checkCommand(
  message: RawMessage,
  direction: Direction,
  maxFds: number,
): MessageDescriptor {
  const { header, fds } = message;
  const problem = commandProblem(header);
  if (problem !== undefined) throw new VfioUserError('EINVAL', problem);
  const descriptor = messageById(header.command);
  if (descriptor === undefined) {
    throw new VfioUserError('ENOSYS', `unknown command ${header.command}`);
  }
  if (descriptor.direction !== direction) {
    throw new VfioUserError('EINVAL', 'a command of the other side');
  }
  if (descriptor.replyRule === 'always' && !wantsReply(header)) {
    throw new VfioUserError('EINVAL', 'this command cannot go without a reply');
  }
  const allowed = Math.min(descriptor.maxRequestFds, maxFds);
  if (fds.length > allowed) {
    throw new VfioUserError('EINVAL', `${fds.length} fds, allowed are ${allowed}`);
  }
  return descriptor;
}
