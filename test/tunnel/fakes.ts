import type { VvuError } from '../../src/errors.js';
import type { Logger } from '../../src/log.js';
import type { Framing, SocketHandlers } from '../../src/native.js';
import type {
  DoorbellKind,
  FrontendInflight,
  FrontendLog,
  FrontendRegion,
  ProvidedInflight,
  SharedMemory,
  ShownRegion,
  TunnelBackend,
  TunnelSession,
} from '../../src/tunnel/index.js';

/** Accounts for fds: each is closed exactly once, by whoever owns it then. */
export class FdAccount {
  readonly open = new Set<number>();
  #next = 1000;

  make(count: number): number[] {
    return Array.from({ length: count }, () => {
      this.open.add(this.#next);
      return this.#next++;
    });
  }

  closeFd = (fd: number): void => {
    if (!this.open.delete(fd)) {
      throw new Error(`fd ${fd} closed twice`);
    }
  };

  /** Sockets that were made of fds; each owns its fd. */
  readonly adopted: FakeSocket[] = [];
  /** False: the fds are no sockets. */
  adoptable = true;

  adoptSocket = (fd: number): FakeSocket => {
    if (!this.adoptable) {
      throw Object.assign(new Error('the fd is no socket'), { code: 'BAD_FD_TYPE' });
    }
    const socket = new FakeSocket(() => this.closeFd(fd));
    this.adopted.push(socket);
    return socket;
  };
}

/** A socket whose other end is the test. */
export class FakeSocket {
  readonly peer = { pid: 1, uid: 2, gid: 3 };
  readonly sent: string[] = [];
  /** Fds that went with them. */
  readonly sentFds: number[] = [];
  /** What `send` returns: false once more than this many messages are queued. */
  highWater = Infinity;
  started = false;
  paused = false;
  closed = false;
  /** Bytes that the other end leaves unread. */
  queued = 0;
  framing: Framing | undefined;
  handlers: SocketHandlers | undefined;

  constructor(private readonly release: () => void = () => undefined) {}

  /** The other end says something. */
  says(hex: string, fds: number[] = []): void {
    this.handlers?.message(Buffer.from(hex.replaceAll(' ', ''), 'hex'), fds);
  }

  start(framing: Framing, handlers: SocketHandlers): void {
    this.framing = framing;
    this.handlers = handlers;
    this.started = true;
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    if (this.closed) {
      throw new Error('send on a closed socket');
    }
    this.sent.push(Buffer.from(bytes).toString('hex'));
    this.sentFds.push(...fds);
    return this.sent.length <= this.highWater;
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
    if (!this.closed) {
      this.closed = true;
      this.release();
    }
  }
}

/** A device whose guest is the test. */
export class FakeBackend implements TunnelBackend {
  readonly guest: string[] = [];
  readonly calls: string[] = [];
  /** rxq buffers that are left. */
  room = Infinity;
  maxVhostQueues = 8;
  /** Thrown by the next call that may fail. */
  error: VvuError | undefined;
  /** Completes a memory request; undefined: at once. */
  gate: Promise<void> | undefined;
  onMessage: ((hex: string) => void) | undefined;
  closed: { session: TunnelSession; code: string; detail: string } | undefined;
  closedCount = 0;
  readonly #owned = new Set<number>();
  readonly #added = new Map<string, number>();

  constructor(private readonly fds: Pick<FdAccount, 'make' | 'closeFd'>) {}

  toGuest(message: Uint8Array): boolean {
    this.#throwError('device');
    if (this.room === 0) {
      return false;
    }
    this.room--;
    const hex = Buffer.from(message).toString('hex');
    this.guest.push(hex);
    this.onMessage?.(hex);
    return true;
  }

  async setMemoryTable(regions: readonly FrontendRegion[]): Promise<readonly ShownRegion[]> {
    this.#note(`set ${regions.map((region) => region.guestAddress.toString(16)).join(' ')}`);
    return this.#memory(regions, regions.map(shown));
  }

  async addMemoryRegion(region: FrontendRegion): Promise<ShownRegion | undefined> {
    this.#note(`add ${region.guestAddress.toString(16)}`);
    const first = this.#count(region, 1) === 1;
    return this.#memory([region], first ? shown(region, 0) : undefined);
  }

  async removeMemoryRegion(region: Omit<FrontendRegion, 'fd'>): Promise<ShownRegion | undefined> {
    this.#note(`remove ${region.guestAddress.toString(16)}`);
    const last = this.#count(region, -1) <= 0;
    return this.#memory([], last ? shown(region, 0) : undefined);
  }

  async setLog(log: FrontendLog): Promise<bigint> {
    this.#note(`log ${log.size.toString(16)} ${log.mmapOffset.toString(16)}`);
    return this.#memory([log], 0xdef000n);
  }

  async createInflight(size: number): Promise<ProvidedInflight> {
    this.#note(`create inflight ${size.toString(16)}`);
    const [fd = -1] = this.fds.make(1);
    return this.#memory([], { place: 0x1ffff000n, fd }).catch((error: unknown) => {
      this.fds.closeFd(fd);
      throw error;
    });
  }

  async setInflight(inflight: FrontendInflight): Promise<bigint> {
    this.#note(`inflight ${inflight.size.toString(16)} ${inflight.mmapOffset.toString(16)}`);
    return this.#memory([inflight], 0x1fffe000n);
  }

  shareMemory(address: bigint, length: bigint, writable: boolean): SharedMemory {
    this.#note(`share ${address.toString(16)} ${length.toString(16)} ${writable ? 'rw' : 'ro'}`);
    this.#throwError('request');
    const [fd = -1] = this.fds.make(1);
    return { fd, fileOffset: address + 0x100000n };
  }

  bindDoorbell(kind: DoorbellKind, index: number, fd: number | undefined): void {
    this.#note(`${kind} ${index} ${fd === undefined ? 'none' : 'fd'}`);
    this.#bind(fd);
  }

  bindKick(index: number, fd: number | undefined): void {
    this.#note(`kick ${index} ${fd === undefined ? 'none' : 'fd'}`);
    this.#bind(fd);
  }

  sessionClosed(session: TunnelSession, code: string, detail: string): void {
    this.closedCount++;
    this.closed = { session, code, detail };
    for (const fd of this.#owned) {
      this.fds.closeFd(fd);
    }
    this.#owned.clear();
  }

  /** How often a region is there once it was added or removed. */
  #count({ guestAddress, size, userAddress }: Omit<FrontendRegion, 'fd'>, change: 1 | -1): number {
    const key = [guestAddress, size, userAddress].join();
    const count = (this.#added.get(key) ?? 0) + change;
    this.#added.set(key, count);
    return count;
  }

  #note(call: string): void {
    this.calls.push(call);
  }

  #bind(fd: number | undefined): void {
    this.#own(fd === undefined ? [] : [fd]);
    this.#throwError('request');
  }

  async #memory<T>(regions: readonly { readonly fd: number }[], result: T): Promise<T> {
    this.#own(regions.map(({ fd }) => fd));
    await this.gate;
    this.#throwError('request');
    return result;
  }

  #own(fds: readonly number[]): void {
    for (const fd of fds) {
      if (this.closed !== undefined) {
        this.fds.closeFd(fd);
      } else {
        this.#owned.add(fd);
      }
    }
  }

  #throwError(scope: VvuError['scope']): void {
    const { error } = this;
    if (error?.scope === scope) {
      this.error = undefined;
      throw error;
    }
  }
}

/** Where the fake's window shows the region with this number. */
function shown(region: Omit<FrontendRegion, 'fd'>, index: number): ShownRegion {
  const { guestAddress, size, userAddress } = region;
  return { guestAddress, size, userAddress, mmapOffset: 0xabc000n + BigInt(index) };
}

export interface LogLine {
  readonly level: string;
  readonly fields: object;
  readonly text: string;
}

/** A logger that keeps its lines. */
export function recordingLogger(lines: LogLine[]): Logger {
  const at = (level: string) => (fields: object, text: string) => {
    lines.push({ level, fields, text });
  };
  const logger: Logger = {
    trace: at('trace'),
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: () => logger,
    isLevelEnabled: () => true,
  };
  return logger;
}
