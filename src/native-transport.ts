/** Carries vfio-user messages over a native AF_UNIX socket, for a server or a client. */
import type { Transport, TransportHandlers } from 'vfio-ts-bindings';
import type { Framing, Native, NativeSocket } from './native.js';

/** vfio-user's header: 16 bytes, u32 message size (header included) at offset 4. */
const HEADER_SIZE = 16;
const LENGTH_OFFSET = 4;
/** 1 MiB of data, vfio-user's default limit, and room for the fixed parts around it. */
const DEFAULT_MAX_MESSAGE = 1024 * 1024 + 4096;
/** More than the protocol's default limits allow, so that the session can refuse by number. */
const DEFAULT_MAX_FDS = 64;

export interface NativeTransportOptions {
  /** Longest message in bytes, header included. */
  readonly maxMessage?: number;
  readonly maxFds?: number;
}

/** Takes the socket over: `close` of the transport closes it. */
export class NativeTransport implements Transport {
  private readonly framing: Framing;

  constructor(
    private readonly native: Pick<Native, 'closeFd'>,
    private readonly socket: NativeSocket,
    options: NativeTransportOptions = {},
  ) {
    this.framing = {
      headerSize: HEADER_SIZE,
      lengthOffset: LENGTH_OFFSET,
      lengthIncludesHeader: true,
      maxMessage: options.maxMessage ?? DEFAULT_MAX_MESSAGE,
      maxFds: options.maxFds ?? DEFAULT_MAX_FDS,
    };
  }

  start(handlers: TransportHandlers): void {
    this.socket.start(this.framing, {
      message: (bytes, fds) => handlers.data(bytes, fds),
      writable: () => handlers.writable?.(),
      closed: (code, detail) => handlers.closed(code, detail),
    });
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    return this.socket.send(bytes, fds);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  request(bytes: Uint8Array, timeoutMs: number): Uint8Array {
    return this.socket.request(bytes, timeoutMs);
  }

  closeFd(fd: number): void {
    this.native.closeFd(fd);
  }

  close(): void {
    this.socket.close();
  }
}
