import { BackendEndpoint } from '../../src/guest/bridge/backend-endpoint.js';
import { VhostUserBridge } from '../../src/guest/bridge.js';
import { VvuDriver } from '../../src/guest/driver.js';
import type { Native, NativeListener, NativeSocket, SocketHandlers } from '../../src/native.js';
import { native as realNative } from '../../src/native.js';
import { FakeClock } from '../support/fake-clock.js';
import { FdAccount, recordingLogger, type LogLine } from '../tunnel/fakes.js';
import { FakeDevice } from './fake-device.js';

/** The bridge's end of a connection whose other end, the backend, is the test. */
export class FakeSocket {
  readonly peer = { pid: 1, uid: 2, gid: 3 };
  /** Bytes that the backend leaves unread. */
  queued = 0;
  /** Hexadecimal, without fds. */
  readonly sent: string[] = [];
  readonly fds: (readonly number[])[] = [];
  full = false;
  paused = false;
  closed = false;
  handlers: SocketHandlers | undefined;

  constructor(private readonly release: () => void = () => undefined) {}

  start(_framing: unknown, handlers: SocketHandlers): void {
    this.handlers = handlers;
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    this.sent.push(Buffer.from(bytes).toString('hex'));
    this.fds.push([...fds]);
    return !this.full;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  /** Calls back when the peer has gone; the socket is unread. */
  hangUp: () => void = () => undefined;

  watchHangup(callback: () => void): void {
    this.hangUp = callback;
  }

  close(): void {
    if (!this.closed) this.release();
    this.closed = true;
  }

  /** The backend says something. */
  says(hex: string, fds: number[] = []): void {
    this.handlers?.message(Buffer.from(hex.replaceAll(' ', ''), 'hex'), fds);
  }

  /** The backend dies. */
  dies(): void {
    this.handlers?.closed('EOF', 'the peer closed');
  }
}

/** A bridge between a device and a backend that are both the test, with an account of all fds. */
export class BridgeRig {
  readonly fds = new FdAccount();
  readonly clock = new FakeClock();
  readonly log: LogLine[] = [];
  readonly device = new FakeDevice();
  readonly driver: VvuDriver;
  readonly endpoint: BackendEndpoint;
  readonly bridge: VhostUserBridge;
  readonly sockets: FakeSocket[] = [];
  /** The bridge's ends of back-end channels. */
  readonly channels: FakeSocket[] = [];
  readonly signalled: number[] = [];
  readonly drained: number[] = [];
  readonly lost: string[] = [];
  reachable = true;

  constructor(options: { vectors?: number; mode?: 'client' | 'server'; remaps?: boolean } = {}) {
    this.device.vectorCount = options.vectors ?? 8;
    this.device.windowRemaps = options.remaps ?? true;
    this.device.windowFile = (offset) => ({ fd: 50, offset: offset + 0x20_0000 });
    const logger = recordingLogger(this.log);
    this.driver = new VvuDriver(this.device, { statusIntervalMs: 0 });
    const { clock } = this;
    const mode = options.mode ?? 'client';
    this.endpoint = new BackendEndpoint({
      ...{ path: '/backend', mode, native: this.sockedNative(), clock, log: logger },
    });
    this.bridge = new VhostUserBridge(this.driver, {
      ...{ endpoint: this.endpoint, logger, native: this.native() },
      pollKicks: this.device.vectorCount === 0,
      onDeviceLost: (code, detail) => this.lost.push(`${code} ${detail}`),
    });
  }

  /** The connection to the backend that counts. */
  get backend(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  /** A backend is there, and a frontend connects. */
  connect(): FakeSocket {
    this.clock.advance(1000);
    this.device.connect();
    this.driver.poll();
    return this.backend;
  }

  /** A message of the frontend: spaces separate fields. */
  request(hex: string): void {
    this.device.toDriver(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
    this.driver.poll();
  }

  /** What the frontend would get. */
  replies(): string[] {
    return this.device.fromDriver().map((bytes) => bytes.toString('hex'));
  }

  warnings(): string[] {
    return this.log.filter(({ level }) => level === 'warn').map(({ text }) => text);
  }

  close(): void {
    this.bridge.close();
    this.endpoint.close();
  }

  private native(): Native {
    const { fds } = this;
    return {
      ...realNative,
      createEventFd: () => fds.make(1)[0]!,
      createSocketPair: () => fds.make(2) as [number, number],
      adoptSocket: (fd) => {
        const socket = new FakeSocket(() => fds.closeFd(fd));
        this.channels.push(socket);
        return socket as unknown as NativeSocket;
      },
      closeFd: fds.closeFd,
      readEventFd: (fd) => this.drained.push(fd),
      signalEventFd: (fd) => void this.signalled.push(fd),
    };
  }

  private sockedNative(): Pick<Native, 'connect' | 'listen'> {
    return {
      connect: () => {
        if (!this.reachable) throw Object.assign(new Error('connect'), { code: 'ENOENT' });
        return this.socket();
      },
      listen: (path, _options, onConnection): NativeListener => {
        this.arrive = () => onConnection(this.socket());
        return { path, close: () => undefined };
      },
    };
  }

  /** Server mode: a backend connects. */
  arrive: () => void = () => undefined;

  private socket(): NativeSocket {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket as unknown as NativeSocket;
  }
}
