import { VvuError } from '../errors.js';
import {
  unknownMessage,
  type ByteOrder,
  type Frame,
  type MessageDescriptor,
} from '../vhost-user/index.js';
import type { KindLog } from './kind-log.js';

/** What becomes of requests that are in no table: of a later revision, or of nobody's. */
export type UnknownRequests = 'pass' | 'refuse';

export interface UnknownRequestsOptions {
  readonly treatment: UnknownRequests;
  /** Byte order on the frontend's sockets. */
  readonly order: ByteOrder;
  readonly kinds: KindLog;
}

/** Requests that the device does not know: bytes, which pass as they are, or are refused. */
export class UnknownRequestPolicy {
  constructor(private readonly options: UnknownRequestsOptions) {}

  /**
   * The request as far as it can be told.
   * @throws VvuError `UNKNOWN_REQUEST`, `BAD_FDS` or `BAD_PAYLOAD_SIZE` of scope `request`
   */
  check(sender: 'frontend' | 'backend', frame: Frame, fdCount: number): MessageDescriptor {
    const { treatment, order, kinds } = this.options;
    const { request, size } = frame;
    const what = `request ${request} is not known`;
    if (treatment === 'refuse' || request === 0) {
      throw new VvuError('UNKNOWN_REQUEST', 'request', what);
    }
    if (order === 'BE') {
      const detail = `${what}, so nobody can swap its bytes`;
      throw new VvuError('UNKNOWN_REQUEST', 'request', detail);
    }
    if (fdCount > 0) {
      throw new VvuError('BAD_FDS', 'request', `${what} and came with ${fdCount} fds`);
    }
    const descriptor = unknownMessage(sender, request);
    descriptor.request.decode(frame.payload, order);
    const from = sender === 'frontend' ? 'the frontend' : 'the guest';
    kinds.report(`unknown ${sender} ${request}`, `unknown request of ${from} passed on`, { size });
    return descriptor;
  }
}
