import type { Clock } from './clock.js';
import type { Logger } from './log.js';
import type { NativeSocket } from './native.js';

/**
 * How long a newcomer may wait for the peer before it to be noticed as gone, in milliseconds. A peer
 * that reconnects at once can overtake the end of its own old connection.
 */
const HANDOVER = 100;

export interface WaitingPeerOptions {
  /** What it is called in the log. */
  readonly role: 'frontend' | 'backend';
  readonly log: Logger;
  readonly clock: Clock;
}

/**
 * For listeners that serve one peer at a time: the latest connection that is not served yet, unread.
 * That it has ended is noticed without reading. Owns the socket until it is taken.
 */
export class WaitingPeer {
  #socket: NativeSocket | undefined;
  #cancelTimer: (() => void) | undefined;

  constructor(private readonly options: WaitingPeerOptions) {}

  get present(): boolean {
    return this.#socket !== undefined;
  }

  /** Keeps a connection, in the place of an earlier one, which may be the same peer's. */
  put(socket: NativeSocket): void {
    const { role, log } = this.options;
    if (this.#socket !== undefined) {
      log.warn({ peer: this.#socket.peer }, `waiting ${role} replaced by a later one`);
      this.close();
    }
    this.#socket = socket;
    socket.watchHangup(() => {
      if (this.#socket !== socket) return;
      log.info({ peer: socket.peer }, `waiting ${role} left`);
      this.close();
    });
  }

  /** Closes it in a moment, if `served` says then that there is another peer still. */
  refuseSoon(served: () => boolean): void {
    const { role, log, clock } = this.options;
    this.#stopTimer();
    this.#cancelTimer = clock.after(HANDOVER, () => {
      this.#cancelTimer = undefined;
      if (this.#socket === undefined || !served()) return;
      log.warn({ peer: this.#socket.peer }, `second ${role} refused, one is connected`);
      this.close();
    });
  }

  /** The socket, not started; the caller's from now on. */
  take(): NativeSocket | undefined {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#stopTimer();
    return socket;
  }

  /** Hangs up. Idempotent. */
  close(): void {
    this.take()?.close();
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}
