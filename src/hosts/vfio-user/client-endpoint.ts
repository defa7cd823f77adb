import { VfioUserServer } from 'vfio-ts-bindings';
import { VvuError, errorCode, errorMessage } from '../../errors.js';
import type { Logger } from '../../log.js';
import { silentLogger } from '../../log.js';
import { NativeTransport } from '../../native-transport.js';
import type { Native, NativeListener, NativeSocket } from '../../native.js';
import type { AssembledFunction, ConnectionHooks } from './assemble.js';
import type { VfioUserDeviceOptions } from './options.js';

/**
 * How long a newcomer may wait for the client before it to be noticed as gone: a VMM that is started
 * again at once can overtake the end of its own old connection.
 */
const HANDOVER_MS = 100;

/** Listens for vfio-user clients and serves one at a time. */
export class ClientEndpoint implements ConnectionHooks {
  readonly #log: Logger;
  #listener: NativeListener | undefined;
  #assembled: AssembledFunction | undefined;
  #server: VfioUserServer | undefined;
  #waiting: { readonly socket: NativeSocket; readonly timer: NodeJS.Timeout } | undefined;
  #closed = false;

  constructor(
    private readonly options: VfioUserDeviceOptions,
    private readonly native: Native,
  ) {
    this.#log = (options.logger ?? silentLogger).child({ socket: 'vfio-user' });
  }

  /** @throws VvuError of scope `setup` when the socket cannot be made */
  listen(assembled: AssembledFunction): void {
    this.#assembled = assembled;
    const { vfioUserPath: path, socketMode: mode, socketGid: gid } = this.options;
    const permissions = { ...(mode !== undefined && { mode }), ...(gid !== undefined && { gid }) };
    try {
      this.#listener = this.native.listen(path, permissions, (socket) =>
        this.#accept(socket, assembled),
      );
    } catch (error) {
      const detail = `cannot listen on ${path}: ${errorMessage(error)}`;
      throw new VvuError(errorCode(error), 'setup', detail, { cause: error });
    }
  }

  guestMemoryLost(): void {
    this.#drop("the guest's memory file shrank");
  }

  clientClosed(reason: string, detail: string): void {
    this.#server = undefined;
    this.#log.info({ reason, detail }, 'client disconnected');
    this.#takeWaiting();
  }

  get connected(): boolean {
    return this.#server !== undefined && !this.#server.closed;
  }

  close(): void {
    this.#closed = true;
    this.#listener?.close();
    this.#stopWaiting()?.close();
    this.#server?.close();
  }

  #accept(socket: NativeSocket, assembled: AssembledFunction): void {
    if (this.#closed) socket.close();
    else if (!this.connected) this.#serve(socket, assembled);
    else {
      this.#refuse(this.#stopWaiting());
      const timer = setTimeout(() => this.#decide(), HANDOVER_MS);
      this.#waiting = { socket, timer };
    }
  }

  /** The newcomer has waited. A client that never said what it is must not keep others out. */
  #decide(): void {
    if (this.connected && this.#assembled?.vfioDevice.negotiated) {
      this.#refuse(this.#stopWaiting());
      return;
    }
    if (this.connected) this.#drop('it has not negotiated a version, and another client came');
    this.#takeWaiting();
  }

  #takeWaiting(): void {
    const socket = this.#stopWaiting();
    if (socket && this.#assembled) this.#serve(socket, this.#assembled);
  }

  #stopWaiting(): NativeSocket | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    clearTimeout(waiting?.timer);
    return waiting?.socket;
  }

  #refuse(socket: NativeSocket | undefined): void {
    if (!socket) return;
    this.#log.warn({ peer: socket.peer }, 'second client refused: one is attached');
    socket.close();
  }

  #serve(socket: NativeSocket, assembled: AssembledFunction): void {
    this.#log.info({ peer: socket.peer }, 'client connected');
    const log = this.#log;
    const trace = log.isLevelEnabled('trace');
    // What C++ answers cannot be decoded in the log: whoever traces wants to see it all.
    if (!trace) socket.attachFastRegions(assembled.fast);
    const server = new VfioUserServer(
      new NativeTransport(this.native, socket),
      assembled.vfioDevice,
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
