/** The frontend's end of the back-end channel: takes requests of the backend and answers them. */
import { errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import type { Native, NativeSocket } from '../native.js';
import {
  backendMessage,
  decodeFrame,
  encodeFrame,
  hasOwnReply,
  nativeOrder,
  u64,
  vhostUserFraming,
  type Frame,
} from '../vhost-user/index.js';

/**
 * Carries a request out, named as the specification names it (`BACKEND_CONFIG_CHANGE_MSG`); what it
 * throws refuses the request. Fds that come with it are closed when it returns.
 */
export type BackendRequestHandler = (name: string, value: unknown, fds: readonly number[]) => void;

const SUCCESS = 0n;
const FAILURE = 1n;

/** Owns both ends until the backend has got its own. */
export class BackendChannel {
  /** The backend's end: to be sent with SET_BACKEND_REQ_FD, then closed with `handedOver`. */
  readonly fd: number;
  private readonly socket: NativeSocket;
  private handed = false;

  constructor(
    private readonly native: Pick<Native, 'createSocketPair' | 'adoptSocket' | 'closeFd'>,
    private readonly log: Logger,
    private readonly handler: BackendRequestHandler,
  ) {
    const [ours, theirs] = native.createSocketPair();
    this.fd = theirs;
    this.socket = native.adoptSocket(ours);
    this.socket.start(vhostUserFraming, {
      message: (bytes, fds) => {
        this.received(bytes, fds);
        for (const fd of fds) native.closeFd(fd);
      },
      closed: (code, detail) => this.log.debug({ code, detail }, 'back-end channel closed'),
    });
  }

  handedOver(): void {
    if (!this.handed) this.native.closeFd(this.fd);
    this.handed = true;
  }

  /** Idempotent. */
  close(): void {
    this.handedOver();
    this.socket.close();
  }

  private received(bytes: Buffer, fds: readonly number[]): void {
    try {
      this.answer(decodeFrame(bytes, nativeOrder), fds);
    } catch (error) {
      this.log.warn({ error: errorMessage(error) }, 'back-end channel dropped');
      this.socket.close();
    }
  }

  private answer(frame: Frame, fds: readonly number[]): void {
    const descriptor = backendMessage(frame.request);
    let result = SUCCESS;
    try {
      if (descriptor === undefined) throw new Error(`request ${frame.request} is unknown`);
      this.handler(descriptor.name, descriptor.request.decode(frame.payload, nativeOrder), fds);
    } catch (error) {
      this.log.warn({ request: frame.request, error: errorMessage(error) }, 'request refused');
      result = FAILURE;
    }
    if (!frame.needReply && !(descriptor !== undefined && hasOwnReply(descriptor, 0))) return;
    const payload = u64.encode(result, nativeOrder);
    this.socket.send(encodeFrame({ request: frame.request, reply: true }, payload, nativeOrder));
  }
}
