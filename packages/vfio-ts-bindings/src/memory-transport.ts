import { FakeFds } from './fake-fds.js';
import { decodeHeader, isReply } from './header.js';
import { VFIO_USER_HEADER_SIZE } from './constants.js';
import { VfioUserError } from './errors.js';
import type { Transport, TransportHandlers } from './transport.js';

export interface TransportPairOptions {
  /**
   * `sync` (default): what is sent is delivered before `send` returns. `async`: in a later turn of
   * the event loop, as a socket does.
   */
  readonly delivery?: 'sync' | 'async';
  /** Longest chunk that is delivered, or a function that is asked for the length of each one. */
  readonly chunkSize?: number | (() => number);
  /** Undelivered bytes from which on `send` returns false. Default 1 MiB. */
  readonly highWaterMark?: number;
}

export interface TransportPair {
  readonly client: Transport;
  readonly server: Transport;
  /** The fds of both ends: one table, as in one process. */
  readonly fds: FakeFds;
}

/** Two connected transports in memory, for tests and fuzzers, with fds that are only numbers. */
export function createTransportPair(options: TransportPairOptions = {}): TransportPair {
  const fds = new FakeFds();
  const client = new MemoryTransport(fds, options);
  const server = new MemoryTransport(fds, options);
  client.connect(server);
  server.connect(client);
  return { client, server, fds };
}

interface Queued {
  readonly bytes: Uint8Array;
  offset: number;
  fds: number[];
}

/** One end. What arrives waits in its inbox, which plays the kernel's socket buffer. */
class MemoryTransport implements Transport {
  #peer: MemoryTransport | undefined;
  #handlers: TransportHandlers | undefined;
  readonly #inbox: Queued[] = [];
  #inboxBytes = 0;
  #paused = false;
  #closed = false;
  #peerClosed = false;
  #delivering = false;
  #scheduled = false;
  /** A blocking request waits for its reply: nothing is delivered. */
  #holding = false;
  /** A `send` returned false and `writable` was not called since. */
  #wantsRoom = false;

  constructor(
    private readonly fds: FakeFds,
    private readonly options: TransportPairOptions,
  ) {}

  connect(peer: MemoryTransport): void {
    this.#peer = peer;
  }

  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
    this.#wake();
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    const peer = this.#peer;
    if (this.#closed || peer === undefined || peer.#closed || bytes.length === 0) return true;
    peer.#receive(
      Uint8Array.from(bytes),
      fds.map((fd) => this.fds.dup(fd)),
    );
    peer.#wake();
    this.#wantsRoom = peer.#inboxBytes > (this.options.highWaterMark ?? 1024 * 1024);
    return !this.#wantsRoom;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#wake();
  }

  request(bytes: Uint8Array): Uint8Array {
    const peer = this.#peer;
    this.#holding = true;
    this.send(bytes);
    if (peer !== undefined) peer.#deliver();
    this.#holding = false;
    // What else came meanwhile is delivered when the caller is done.
    queueMicrotask(() => this.#deliver());
    const { id } = decodeHeader(bytes);
    const found = this.#inbox.findIndex((message) => isReplyTo(message, id));
    const [reply] = found < 0 ? [] : this.#inbox.splice(found, 1);
    if (reply === undefined) {
      throw new VfioUserError('ETIMEDOUT', 'the peer did not reply at once');
    }
    this.#inboxBytes -= reply.bytes.length;
    for (const fd of reply.fds) this.fds.close(fd);
    return reply.bytes;
  }

  closeFd(fd: number): void {
    this.fds.close(fd);
  }

  close(): void {
    if (this.#closed) return;
    this.#end('CLOSED', 'closed here');
    const peer = this.#peer;
    if (peer === undefined) return;
    peer.#peerClosed = true;
    peer.#wake();
  }

  #receive(bytes: Uint8Array, fds: number[]): void {
    this.#inbox.push({ bytes, offset: 0, fds });
    this.#inboxBytes += bytes.length;
  }

  #wake(): void {
    if (this.options.delivery !== 'async') {
      this.#deliver();
    } else if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => {
        this.#scheduled = false;
        this.#deliver();
      });
    }
  }

  /** Not reentrant: what a handler's own actions bring in is delivered by the outer call. */
  #deliver(): void {
    if (this.#delivering || this.#holding || this.#handlers === undefined) return;
    this.#delivering = true;
    while (!this.#paused && !this.#closed) {
      const message = this.#inbox[0];
      if (message === undefined) break;
      this.#deliverChunk(message);
    }
    this.#delivering = false;
    if (this.#peerClosed && this.#inbox.length === 0) this.#end('EOF', 'closed by the peer');
    const peer = this.#peer;
    if (peer !== undefined) peer.#roomAgain(this.#inboxBytes);
  }

  #deliverChunk(message: Queued): void {
    const { chunkSize = message.bytes.length } = this.options;
    const wanted = typeof chunkSize === 'function' ? chunkSize() : chunkSize;
    const end = Math.min(message.bytes.length, message.offset + Math.max(1, Math.floor(wanted)));
    const chunk = message.bytes.subarray(message.offset, end);
    const fds = message.fds.splice(0);
    this.#inboxBytes -= chunk.length;
    message.offset = end;
    if (end === message.bytes.length) this.#inbox.shift();
    this.#handlers?.data(chunk, fds);
  }

  #roomAgain(queued: number): void {
    if (!this.#wantsRoom || queued > (this.options.highWaterMark ?? 1024 * 1024) / 2) return;
    this.#wantsRoom = false;
    if (!this.#closed) this.#handlers?.writable?.();
  }

  #end(reason: string, detail: string): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { fds } of this.#inbox.splice(0)) for (const fd of fds) this.fds.close(fd);
    this.#inboxBytes = 0;
    this.#handlers?.closed(reason, detail);
  }
}

function isReplyTo({ bytes, offset }: Queued, id: number): boolean {
  if (offset !== 0 || bytes.length < VFIO_USER_HEADER_SIZE) return false;
  const header = decodeHeader(bytes);
  return header.id === id && isReply(header);
}
