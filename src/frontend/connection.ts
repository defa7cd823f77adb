/** Requests and replies of a vhost-user frontend, one at a time, over a native socket. */
import { VvuError } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import type { Native, NativeSocket } from '../native.js';
import {
  decodeFrame,
  encodeFrame,
  nativeOrder,
  u64,
  vhostUserFraming,
  type Frame,
  type MessageDescriptor,
} from '../vhost-user/index.js';

const DEFAULT_TIMEOUT_MS = 5000;

export interface ConnectionOptions {
  readonly native: Native;
  readonly logger?: Logger;
  /** Longest wait for a reply in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
  /** Called once when the connection ends, whoever ended it. */
  readonly onClosed?: (code: string, detail: string) => void;
}

interface Waiting {
  readonly request: number;
  resolve(frame: Frame): void;
  reject(error: Error): void;
}

/** Owns the socket. */
export class FrontendConnection {
  /** Use need_reply and wait for acknowledgements: set once REPLY_ACK is negotiated. */
  acknowledged = false;
  private waiting: Waiting | undefined;
  private ended: VvuError | undefined;
  private readonly log: Logger;
  private readonly timeoutMs: number;

  constructor(
    private readonly socket: NativeSocket,
    options: ConnectionOptions,
  ) {
    this.log = options.logger ?? silentLogger;
    this.timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    socket.start(vhostUserFraming, {
      message: (bytes, fds) => {
        // No reply that is asked for here carries an fd.
        for (const fd of fds) options.native.closeFd(fd);
        this.receive(bytes);
      },
      closed: (code, detail) => {
        this.fail(new VvuError('DISCONNECTED', 'peer', `backend closed: ${code} ${detail}`));
        options.onClosed?.(code, detail);
      },
    });
  }

  get closed(): boolean {
    return this.ended !== undefined;
  }

  /** Sends a request that has a reply of its own. The fds stay the caller's. */
  async get<Q, R>(
    descriptor: MessageDescriptor<Q, R>,
    value: Q,
    fds: readonly number[] = [],
  ): Promise<R> {
    const frame = await this.request(descriptor, value, fds, false);
    return descriptor.replyPayload.decode(frame.payload, nativeOrder);
  }

  /**
   * Sends a request without a reply, or with an acknowledgement. The fds stay the caller's.
   * @throws VvuError `REFUSED`, scope `request`, when the backend acknowledged with an error
   */
  async set<Q>(
    descriptor: MessageDescriptor<Q>,
    value: Q,
    fds: readonly number[] = [],
  ): Promise<void> {
    if (!this.acknowledged) {
      this.transmit(descriptor, value, fds, false);
      return;
    }
    const frame = await this.request(descriptor, value, fds, true);
    const result = u64.decode(frame.payload, nativeOrder);
    if (result !== 0n) {
      throw new VvuError('REFUSED', 'request', `backend refused ${descriptor.name}: ${result}`);
    }
  }

  /** Drops the connection. Idempotent. */
  close(): void {
    this.socket.close();
  }

  private request<Q>(
    descriptor: MessageDescriptor<Q>,
    value: Q,
    fds: readonly number[],
    needReply: boolean,
  ): Promise<Frame> {
    if (this.waiting !== undefined) {
      throw new VvuError('BUSY', 'bug', `${descriptor.name} while another request waits`);
    }
    return new Promise<Frame>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.fail(new VvuError('TIMEOUT', 'peer', `no reply to ${descriptor.name}`));
        this.socket.close();
      }, this.timeoutMs);
      const done = (): void => {
        clearTimeout(timer);
        this.waiting = undefined;
      };
      this.waiting = {
        request: descriptor.id,
        resolve: (frame) => {
          done();
          resolve(frame);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      try {
        this.transmit(descriptor, value, fds, needReply);
      } catch (error) {
        this.waiting.reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  private transmit<Q>(
    descriptor: MessageDescriptor<Q>,
    value: Q,
    fds: readonly number[],
    needReply: boolean,
  ): void {
    if (this.ended !== undefined) throw this.ended;
    const payload = descriptor.request.encode(value, nativeOrder);
    this.log.trace({ message: descriptor.name, fds: fds.length }, 'request');
    this.socket.send(encodeFrame({ request: descriptor.id, needReply }, payload, nativeOrder), fds);
  }

  private receive(bytes: Buffer): void {
    try {
      const frame = decodeFrame(bytes, nativeOrder);
      const { waiting } = this;
      if (!frame.reply || waiting?.request !== frame.request) {
        throw new VvuError('UNEXPECTED', 'peer', `unexpected message ${frame.request}`);
      }
      waiting.resolve(frame);
    } catch (error) {
      this.fail(
        error instanceof VvuError ? error : new VvuError('BAD_REPLY', 'peer', String(error)),
      );
      this.socket.close();
    }
  }

  private fail(error: VvuError): void {
    this.ended ??= error;
    this.waiting?.reject(this.ended);
  }
}
