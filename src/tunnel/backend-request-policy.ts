import { VvuError } from '../errors.js';
import {
  backendMessage,
  backendMessages,
  VHOST_IOTLB_ACCESS_FAIL,
  VHOST_IOTLB_MISS,
  type Frame,
  type Iotlb,
  type MessageDescriptor,
} from '../vhost-user/index.js';
import type { Negotiation } from './negotiation.js';
import { refusesBackendRequest } from './policy.js';
import type { UnknownRequestPolicy } from './unknown-requests.js';

/** A request of the guest that may go to the frontend. */
export interface CheckedBackendRequest {
  readonly descriptor: MessageDescriptor;
  readonly value: unknown;
}

function refused(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

/** Decides which requests of the guest reach the frontend, over the channel that it has opened. */
export class BackendRequestPolicy {
  constructor(
    private readonly maxVhostQueues: number,
    private readonly negotiation: Negotiation,
    private readonly unknown: UnknownRequestPolicy,
  ) {}

  /** @throws VvuError of scope `request`: the frontend never sees it */
  check(frame: Frame): CheckedBackendRequest {
    const descriptor = backendMessage(frame.request);
    if (descriptor === undefined) {
      return { descriptor: this.unknown.check('backend', frame, 0), value: frame.payload };
    }
    if (refusesBackendRequest(descriptor.id)) {
      throw refused('NOT_SERVED', `${descriptor.name} cannot be tunnelled`);
    }
    this.negotiation.check(descriptor);
    const value = descriptor.request.decode(frame.payload, 'LE');
    this.#checkVringIndex(descriptor, value);
    if (descriptor.id === backendMessages.IOTLB_MSG.id) {
      this.#checkIotlb(value as Iotlb);
    }
    return { descriptor, value };
  }

  #checkVringIndex(descriptor: MessageDescriptor, value: unknown): void {
    const index = descriptor.vring?.(value);
    if (index !== undefined && index >= this.maxVhostQueues) {
      const what = `${descriptor.name} of vring ${index}, there are ${this.maxVhostQueues}`;
      throw refused('BAD_VRING', what);
    }
  }

  /** The other two types are the frontend's to send. */
  #checkIotlb({ type }: Iotlb): void {
    if (type !== VHOST_IOTLB_MISS && type !== VHOST_IOTLB_ACCESS_FAIL) {
      throw refused('BAD_IOTLB_TYPE', `back-end IOTLB message of type ${type}`);
    }
  }
}
