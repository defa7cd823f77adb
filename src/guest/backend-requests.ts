import { systemClock, type Clock } from '../clock.js';
import { VvuError, errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import {
  encodeFrame,
  hasOwnReply,
  u64,
  type Frame,
  type MessageDescriptor,
} from '../vhost-user/index.js';

export interface BackendRequestsPorts {
  /** Puts a message on txq; false when there is no room. */
  send(message: Buffer): boolean;
  /** Whether REPLY_ACK is in force. */
  acknowledged(): boolean;
  readonly log: Logger;
  readonly clock?: Clock;
}

export interface RequestOptions {
  /** Longest wait for the reply, default 5,000 ms. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 5000;
/** Requests whose replies are owed; the device allows 64. */
const MAX_WAITING = 32;

interface Waiting {
  readonly descriptor: Pick<MessageDescriptor, 'id' | 'name'>;
  /** Called once; it does nothing where the wait is over. */
  readonly settle: (error: VvuError | undefined) => void;
}

function failed(code: string, detail: string): VvuError {
  return new VvuError(code, 'request', detail);
}

/**
 * Requests of the backend to its frontend, over the channel that the frontend opens with
 * SET_BACKEND_REQ_FD; before that the device would discard them. Replies come in the order of the
 * requests, from inside the driver's `poll`.
 */
export class BackendRequests {
  private opened = false;
  private waiting: Waiting[] = [];
  private readonly clock: Clock;

  constructor(private readonly ports: BackendRequestsPorts) {
    this.clock = ports.clock ?? systemClock;
  }

  /** Whether the frontend has opened the channel. */
  get available(): boolean {
    return this.opened;
  }

  /**
   * Sends a request of `backendMessages` and waits for the frontend's acknowledgement. Where
   * REPLY_ACK is not in force there is none, and it resolves at once.
   *
   * Rejects with a VvuError of scope `request`: `NO_CHANNEL`, `NO_ROOM` (too much is on its way),
   * `REFUSED` (by the frontend, or by the device for what needs an fd), `TIMEOUT`, `DISCONNECTED`.
   */
  async request<Q>(
    descriptor: MessageDescriptor<Q, bigint>,
    value: Q,
    options: RequestOptions = {},
  ): Promise<void> {
    const { name } = descriptor;
    const answered = hasOwnReply(descriptor, 0) || this.ports.acknowledged();
    if (answered && this.waiting.length >= MAX_WAITING) {
      throw failed('NO_ROOM', `${name}: the frontend owes ${MAX_WAITING} replies`);
    }
    this.transmit(descriptor, value, answered);
    if (!answered) return;
    await new Promise<void>((resolve, reject) => {
      const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
      const cancel = this.clock.after(timeoutMs, () => {
        // The reply is still owed: until it comes, this keeps its place in the order.
        reject(failed('TIMEOUT', `no reply to ${name} in ${timeoutMs} ms`));
      });
      const settle = (error: VvuError | undefined): void => {
        cancel();
        if (error === undefined) resolve();
        else reject(error);
      };
      this.waiting.push({ descriptor, settle });
    });
  }

  /**
   * Sends a request without asking for an acknowledgement.
   * @throws VvuError of scope `request`: `NO_CHANNEL`, `NO_ROOM`
   */
  notify<Q>(descriptor: MessageDescriptor<Q, bigint>, value: Q): void {
    this.transmit(descriptor, value, false);
  }

  /** The frontend has sent SET_BACKEND_REQ_FD. */
  open(): void {
    this.opened = true;
  }

  /** The frontend has gone: nothing that is owed will come. */
  close(reason: string): void {
    this.opened = false;
    for (const { descriptor, settle } of this.waiting.splice(0)) {
      settle(failed('DISCONNECTED', `${descriptor.name}: ${reason}`));
    }
  }

  /** A message with REPLY from rxq. One that is not due is dropped: it may be late. */
  reply(frame: Frame): void {
    const next = this.waiting[0];
    if (next?.descriptor.id !== frame.request) {
      this.ports.log.debug({ request: frame.request }, 'reply that is not due dropped');
      return;
    }
    this.waiting.shift();
    const { name } = next.descriptor;
    try {
      const result = u64.decode(frame.payload, 'LE');
      next.settle(result === 0n ? undefined : failed('REFUSED', `${name} was refused: ${result}`));
    } catch (error) {
      next.settle(failed('BAD_REPLY', `${name}: ${errorMessage(error)}`));
    }
  }

  private transmit<Q>(
    descriptor: MessageDescriptor<Q, bigint>,
    value: Q,
    needReply: boolean,
  ): void {
    const { id, name } = descriptor;
    if (!this.opened) throw failed('NO_CHANNEL', `${name}: the frontend takes no requests`);
    const payload = descriptor.request.encode(value, 'LE');
    const message = encodeFrame({ request: id, needReply }, payload, 'LE');
    if (!this.ports.send(message)) throw failed('NO_ROOM', `${name}: no buffer in txq`);
  }
}
