import { VfioUserServer } from 'vfio-ts-bindings';
import { VvuError, errorCode, errorMessage } from '../../errors.js';
import type { Logger } from '../../log.js';
import { silentLogger } from '../../log.js';
import { NativeTransport } from '../../native-transport.js';
import type { Native, NativeListener, NativeSocket } from '../../native.js';
import type { AssembledFunction } from './assemble.js';
import type { VfioUserDeviceOptions } from './options.js';

/**
 * How long a newcomer may wait for the client before it to be noticed as gone: a VMM that is started
 * again at once can overtake the end of its own old connection.
 */
const HANDOVER_MS = 100;

/** Listens for vfio-user clients and serves one at a time. */
export class ClientEndpoint {
  readonly #log: Logger;
  readonly #listener: NativeListener;
  #server: VfioUserServer | undefined;
  #waiting: { readonly socket: NativeSocket; readonly timer: NodeJS.Timeout } | undefined;
  #closed = false;

  /** @throws VvuError of scope `setup` when the socket cannot be made */
  constructor(
    options: VfioUserDeviceOptions,
    private readonly native: Native,
    private readonly assembled: AssembledFunction,
  ) {
    this.#log = (options.logger ?? silentLogger).child({ socket: 'vfio-user' });
    const { vfioUserPath: path, socketMode: mode, socketGid: gid } = options;
    try {
      this.#listener = native.listen(
        path,
        { ...(mode !== undefined && { mode }), ...(gid !== undefined && { gid }) },
        (socket) => this.#accept(socket),
      );
    } catch (error) {
      throw new VvuError(errorCode(error), 'setup', `vfio-user ${path}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
    assembled.onGuestMemoryLost = () => this.#drop("the guest's memory file shrank");
    assembled.onClientClosed = (reason, detail) => {
      this.#server = undefined;
      this.#log.info({ reason, detail }, 'client disconnected');
      this.#takeWaiting();
    };
  }

  get connected(): boolean {
    return this.#server !== undefined && !this.#server.closed;
  }

  close(): void {
    this.#closed = true;
    this.#listener.close();
    this.#stopWaiting()?.close();
    this.#server?.close();
  }

  #accept(socket: NativeSocket): void {
    if (this.#closed) socket.close();
    else if (!this.connected) this.#serve(socket);
    else {
      this.#refuse(this.#stopWaiting());
      const timer = setTimeout(() => this.#decide(), HANDOVER_MS);
      this.#waiting = { socket, timer };
    }
  }

  /** The newcomer has waited. A client that never said what it is must not keep others out. */
  #decide(): void {
    if (this.connected && this.assembled.vfioDevice.negotiated) {
      this.#refuse(this.#stopWaiting());
      return;
    }
    if (this.connected) this.#drop('it has not negotiated a version, and another client came');
    this.#takeWaiting();
  }

  #takeWaiting(): void {
    const socket = this.#stopWaiting();
    if (socket) this.#serve(socket);
  }

  #stopWaiting(): NativeSocket | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    clearTimeout(waiting?.timer);
    return waiting?.socket;
  }

  #refuse(socket: NativeSocket | undefined): void {
    if (!socket) return;
    const { pid, uid } = socket.peer;
    this.#log.warn({ pid, uid }, 'second client refused: one is attached');
    socket.close();
  }

  #serve(socket: NativeSocket): void {
    const { pid, uid } = socket.peer;
    this.#log.info({ pid, uid }, 'client connected');
    const log = this.#log;
    const trace = log.isLevelEnabled('trace');
    // What C++ answers cannot be decoded in the log: whoever traces wants to see it all.
    if (!trace) socket.attachFastRegions(this.assembled.fast);
    const server = new VfioUserServer(
      new NativeTransport(this.native, socket),
      this.assembled.vfioDevice,
      {
        signalEventFd: (fd) => this.native.signalEventFd(fd),
        checkEventFd: (fd) => this.native.checkEventFd(fd),
        log: {
          warn: (text) => log.warn({}, text),
          ...(trace && {
            trace: (direction: 'in' | 'out', text: string) => log.trace({ direction }, text),
          }),
        },
      },
    );
    this.#server = server;
    server.start();
  }

  #drop(reason: string): void {
    this.#log.error({ reason }, 'client dropped');
    this.#server?.close();
  }
}
