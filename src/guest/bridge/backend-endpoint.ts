import { Backoff } from '../../backoff.js';
import { systemClock, type Clock } from '../../clock.js';
import { VvuError, errorCode, errorMessage } from '../../errors.js';
import { silentLogger, type Logger } from '../../log.js';
import type { ListenOptions, Native, NativeListener, NativeSocket } from '../../native.js';
import { WaitingPeer } from '../../waiting-peer.js';

export interface BackendEndpointOptions {
  readonly path: string;
  /** `client`: the backend listens, as most do. `server`: the backend connects to us. */
  readonly mode: 'client' | 'server';
  readonly native: Pick<Native, 'listen' | 'connect'>;
  readonly log?: Logger;
  /** Permissions of the socket file, in server mode. */
  readonly permissions?: ListenOptions;
  readonly clock?: Clock;
}

/** Delays between attempts to connect, and behind a backend that hung up, in milliseconds. */
const FIRST_DELAY = 50;
const LAST_DELAY = 500;
/** A backend that stayed this long is trusted to be back at once. */
const STEADY = 1000;

/**
 * Where the local backend is found: one connection at a time, and only when one is wanted. In server
 * mode the latest connection waits unread until then.
 */
export class BackendEndpoint {
  private readonly log: Logger;
  private readonly clock: Clock;
  private readonly backoff: Backoff;
  private listener: NativeListener | undefined;
  private readonly waiting: WaitingPeer;
  private onSocket: ((socket: NativeSocket) => void) | undefined;
  private cancelTimer: (() => void) | undefined;
  private taken = false;
  private since = -Infinity;
  private notBefore = -Infinity;
  private missing = false;
  private closed = false;

  constructor(private readonly options: BackendEndpointOptions) {
    this.log = options.log ?? silentLogger;
    this.clock = options.clock ?? systemClock;
    this.waiting = new WaitingPeer({ role: 'backend', log: this.log, clock: this.clock });
    this.backoff = new Backoff(FIRST_DELAY, LAST_DELAY, () => this.clock.random());
  }

  /** Server mode: listens. @throws VvuError of scope `setup` */
  open(): void {
    const { mode, path, native, permissions } = this.options;
    if (mode === 'client' || this.listener !== undefined || this.closed) return;
    try {
      this.listener = native.listen(path, permissions ?? {}, (socket) => this.accepted(socket));
    } catch (error) {
      const detail = `cannot listen on ${path}: ${errorMessage(error)}`;
      throw new VvuError(errorCode(error), 'setup', detail, { cause: error });
    }
  }

  /**
   * Asks for the next connection; `onSocket` gets one, not started, and owns it. Never called back
   * from inside this call.
   */
  want(onSocket: (socket: NativeSocket) => void): void {
    if (this.closed) return;
    this.taken = false;
    this.onSocket = onSocket;
    this.arm(Math.max(0, this.notBefore - this.clock.now()), () => this.next());
  }

  /** Nobody wants a connection at the moment. */
  unwant(): void {
    this.onSocket = undefined;
    this.taken = false;
    this.stopTimer();
  }

  /** The backend itself ended the connection, so that the next attempt has to wait. */
  ended(): void {
    if (this.clock.now() - this.since >= STEADY) this.backoff.reset();
    this.notBefore = this.clock.now() + this.backoff.next();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.unwant();
    this.listener?.close();
    this.waiting.close();
  }

  private accepted(socket: NativeSocket): void {
    if (this.closed) {
      socket.close();
      return;
    }
    this.waiting.put(socket);
    if (this.onSocket !== undefined) this.next();
    else this.waiting.refuseSoon(() => this.taken);
  }

  private next(): void {
    if (this.onSocket === undefined) return;
    if (this.options.mode === 'client') {
      this.connect();
      return;
    }
    const socket = this.waiting.take();
    if (socket === undefined) {
      this.reportMissing('nobody connects');
      return;
    }
    this.stopTimer();
    this.hand(socket);
  }

  private connect(): void {
    const { native, path } = this.options;
    let socket: NativeSocket;
    try {
      socket = native.connect(path);
    } catch (error) {
      this.reportMissing(errorMessage(error));
      this.arm(this.backoff.next(), () => this.next());
      return;
    }
    this.hand(socket);
  }

  /** Once per absence, not per attempt. */
  private reportMissing(detail: string): void {
    if (this.missing) return;
    this.missing = true;
    this.log.info({ path: this.options.path, detail }, 'waiting for the backend');
  }

  private hand(socket: NativeSocket): void {
    const { onSocket } = this;
    this.onSocket = undefined;
    this.taken = true;
    this.missing = false;
    this.since = this.clock.now();
    onSocket?.(socket);
  }

  private arm(delay: number, callback: () => void): void {
    this.stopTimer();
    this.cancelTimer = this.clock.after(delay, () => {
      this.cancelTimer = undefined;
      callback();
    });
  }

  private stopTimer(): void {
    this.cancelTimer?.();
    this.cancelTimer = undefined;
  }
}
