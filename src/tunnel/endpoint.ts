import { Backoff } from '../backoff.js';
import { systemClock, type Clock } from '../clock.js';
import { errorCode, errorMessage, VvuError } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import type { ListenOptions, Native, NativeListener, NativeSocket } from '../native.js';
import { WaitingPeer } from '../waiting-peer.js';
import type { TunnelRules } from './policy.js';
import type { FrontendEndpoint, TunnelBackend, TunnelSession } from './ports.js';
import { FrontendSession } from './session.js';

export interface EndpointOptions {
  readonly path: string;
  /** `server`: listen, the usual way with QEMU. `client`: the frontend listens. */
  readonly mode: 'server' | 'client';
  readonly native: Pick<Native, 'listen' | 'connect' | 'closeFd' | 'adoptSocket'>;
  readonly log?: Logger;
  /** Permissions of the socket file, in server mode. */
  readonly permissions?: ListenOptions;
  readonly maxMemorySlots?: number;
  readonly rules?: TunnelRules;
  readonly clock?: Clock;
}

/** Client mode: first and longest delay between attempts, milliseconds. */
const FIRST_DELAY = 100;
const LAST_DELAY = 5000;
/** Client mode: a frontend that stayed this long is trusted to be back soon. */
const STEADY = 1000;

/**
 * Where frontends connect. It serves one at a time, and only while the device wants one, that is
 * while the backend is up.
 *
 * Server mode: while the backend is down the latest connection waits unread; the newcomer wins, as it
 * may be the same frontend again. While a frontend is served another is closed. Client mode: no connection exists while the
 * backend is down; attempts are repeated with growing delays as long as one is wanted.
 */
export class SocketEndpoint implements FrontendEndpoint {
  readonly #options: EndpointOptions;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #backend: TunnelBackend | undefined;
  #onSession: ((session: TunnelSession) => void) | undefined;
  #listener: NativeListener | undefined;
  #session: FrontendSession | undefined;
  readonly #waiting: WaitingPeer;
  #wanted = false;
  #closed = false;
  #cancelTimer: (() => void) | undefined;
  /** Client mode: when the next attempt may be made, however often the backend comes and goes. */
  #notBefore = -Infinity;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLogger;
    this.#clock = options.clock ?? systemClock;
    this.#waiting = new WaitingPeer({ role: 'frontend', log: this.#log, clock: this.#clock });
    this.#backoff = new Backoff(FIRST_DELAY, LAST_DELAY, () => this.#clock.random());
  }

  attach(backend: TunnelBackend, onSession: (session: TunnelSession) => void): void {
    this.#backend = backend;
    this.#onSession = onSession;
  }

  /**
   * Server mode: listens, so that frontends may connect and wait. Client mode: nothing to do yet.
   * @throws VvuError of scope `setup`, `ADDRESS_IN_USE` or an errno name
   */
  open(): void {
    const { mode, path, native, permissions } = this.#options;
    if (mode === 'client' || this.#listener !== undefined || this.#closed) {
      return;
    }
    try {
      this.#listener = native.listen(path, permissions ?? {}, (socket) => {
        this.#accepted(socket);
      });
    } catch (error) {
      const detail = `cannot listen on ${path}: ${errorMessage(error)}`;
      throw new VvuError(errorCode(error), 'setup', detail, { cause: error });
    }
  }

  want(wanted: boolean): void {
    if (this.#closed || wanted === this.#wanted) {
      return;
    }
    if (this.#backend === undefined) {
      throw new VvuError('NOT_ATTACHED', 'bug', 'endpoint used before attach');
    }
    this.#wanted = wanted;
    if (wanted) {
      this.#serveNext();
    } else {
      this.#stopTimer();
      this.#session?.close('the backend is down');
    }
  }

  close(): void {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    this.#wanted = false;
    this.#stopTimer();
    this.#listener?.close();
    this.#waiting.close();
    this.#session?.close('the device is closed');
  }

  #accepted(socket: NativeSocket): void {
    if (this.#closed) {
      socket.close();
      return;
    }
    this.#waiting.put(socket);
    if (this.#session !== undefined) {
      this.#waiting.refuseSoon(() => this.#session !== undefined);
      return;
    }
    this.#serveNext();
    if (this.#waiting.present) {
      this.#log.info({ peer: socket.peer }, 'frontend waits for the backend');
    }
  }

  /** Starts a session if one is wanted and possible. */
  #serveNext(): void {
    if (!this.#wanted || this.#session !== undefined) {
      return;
    }
    if (this.#options.mode === 'client') {
      this.#connect();
      return;
    }
    const socket = this.#waiting.take();
    if (socket !== undefined) {
      this.#stopTimer();
      this.#serve(socket);
    }
  }

  #connect(): void {
    const { native, path } = this.#options;
    const wait = this.#notBefore - this.#clock.now();
    if (wait > 0) {
      this.#arm(wait, () => {
        this.#serveNext();
      });
      return;
    }
    let socket: NativeSocket;
    try {
      socket = native.connect(path);
    } catch (error) {
      this.#delayConnect();
      this.#log.debug({ path, code: errorCode(error) }, 'frontend not reachable');
      this.#connect();
      return;
    }
    this.#serve(socket);
  }

  #delayConnect(): void {
    this.#notBefore = this.#clock.now() + this.#backoff.next();
  }

  #serve(socket: NativeSocket): void {
    const { native, maxMemorySlots, rules } = this.#options;
    if (this.#backend === undefined) {
      socket.close();
      return;
    }
    const since = this.#clock.now();
    this.#log.debug({ peer: socket.peer }, 'frontend connected');
    const session = new FrontendSession({
      socket,
      backend: this.#backend,
      native,
      log: this.#log,
      ...(maxMemorySlots === undefined ? {} : { maxMemorySlots }),
      ...(rules === undefined ? {} : { rules }),
      onClosed: () => {
        this.#sessionOver(since);
      },
    });
    this.#session = session;
    this.#onSession?.(session);
  }

  /**
   * The next frontend's turn comes later, never from inside the end of this session: the device is
   * told of the end right after this, and usually no longer wants one then.
   */
  #sessionOver(since: number): void {
    this.#session = undefined;
    if (this.#closed) {
      return;
    }
    if (this.#options.mode === 'client') {
      // A frontend that accepts and hangs up at once is not worth asking ten times a second.
      if (this.#clock.now() - since >= STEADY) {
        this.#backoff.reset();
      }
      this.#delayConnect();
    }
    this.#arm(0, () => {
      this.#serveNext();
    });
  }

  #arm(delay: number, callback: () => void): void {
    this.#stopTimer();
    this.#cancelTimer = this.#clock.after(delay, () => {
      this.#cancelTimer = undefined;
      callback();
    });
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}
