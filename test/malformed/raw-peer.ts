import { native, type Framing, type NativeSocket } from '../../src/native.js';

/** A connection that sends whatever it is told to, and notes what comes back. */
export class RawPeer {
  readonly received: Buffer[] = [];
  /** Why the connection ended, once it has. */
  closed: string | undefined;
  readonly #socket: NativeSocket;
  #wake: () => void = () => undefined;

  constructor(path: string, framing: Omit<Framing, 'maxMessage' | 'maxFds'>) {
    this.#socket = native.connect(path);
    this.#socket.start(
      { ...framing, maxMessage: 2 ** 22, maxFds: 253 },
      {
        message: (bytes, fds) => {
          for (const fd of fds) native.closeFd(fd);
          this.received.push(bytes);
          this.#wake();
        },
        closed: (code) => {
          this.closed = code;
          this.#wake();
        },
      },
    );
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.#socket.send(bytes, fds);
  }

  /** The next message, or undefined where the peer hangs up instead. */
  async next(): Promise<Buffer | undefined> {
    const deadline = Date.now() + 5000;
    while (this.received.length === 0 && this.closed === undefined) {
      if (Date.now() > deadline) throw new Error('neither an answer nor an end within 5 s');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 250);
      });
    }
    return this.received.shift();
  }

  /** Leaves what comes in the kernel. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#socket.close();
  }
}

/** Makes fds for one message and closes them here when it is sent. */
export class TestFds {
  readonly #open: number[] = [];

  /** A sealed memfd. */
  memory(bytes: number): number {
    return this.#keep(native.createMemfd('malformed', bytes));
  }

  eventfd(): number {
    return this.#keep(native.createEventFd());
  }

  readOnlyFile(): number {
    return this.#keep(native.openFile('/etc/hostname', { writable: false }));
  }

  close(): void {
    for (const fd of this.#open.splice(0)) native.closeFd(fd);
  }

  #keep(fd: number): number {
    this.#open.push(fd);
    return fd;
  }
}
