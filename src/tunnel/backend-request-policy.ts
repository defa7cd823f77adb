import { VvuError } from '../errors.js';
import {
  backendMessage,
  backendMessages,
  VHOST_IOTLB_ACCESS_FAIL,
  VHOST_IOTLB_MISS,
  type Frame,
  type Iotlb,
  type MessageDescriptor,
  type ShmemMap,
} from '../vhost-user/index.js';
import type { Negotiation } from './negotiation.js';
import { refusesBackendRequest } from './policy.js';
import type { TunnelBackend } from './ports.js';
import type { UnknownRequestPolicy } from './unknown-requests.js';

/** A request of the guest that may go to the frontend. */
export interface CheckedBackendRequest {
  readonly descriptor: MessageDescriptor;
  readonly value: unknown;
  /** Goes with the message; the caller's. */
  readonly fd?: number;
}

/** VHOST_USER_FLAG_MAP_RW of "VhostUserMMap". */
const SHMEM_MAP_WRITABLE = 1n;

function refused(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

/** Decides which requests of the guest reach the frontend, over the channel that it has opened. */
export class BackendRequestPolicy {
  constructor(
    private readonly backend: Pick<TunnelBackend, 'maxVhostQueues' | 'shareMemory'>,
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
    if (descriptor.action === 'share-memory') {
      return { descriptor, ...this.#shared(value as ShmemMap) };
    }
    return { descriptor, value };
  }

  #checkVringIndex(descriptor: MessageDescriptor, value: unknown): void {
    const index = descriptor.vring?.(value);
    const { maxVhostQueues } = this.backend;
    if (index !== undefined && index >= maxVhostQueues) {
      const what = `${descriptor.name} of vring ${index}, there are ${maxVhostQueues}`;
      throw refused('BAD_VRING', what);
    }
  }

  /** "fd_offset" is an address of the guest, which has no files to name. */
  #shared(map: ShmemMap): { readonly value: ShmemMap; readonly fd: number } {
    const writable = (map.flags & SHMEM_MAP_WRITABLE) !== 0n;
    const { fd, fileOffset } = this.backend.shareMemory(map.fdOffset, map.length, writable);
    return { value: { ...map, fdOffset: fileOffset }, fd };
  }

  /** The other two types are the frontend's to send. */
  #checkIotlb({ type }: Iotlb): void {
    if (type !== VHOST_IOTLB_MISS && type !== VHOST_IOTLB_ACCESS_FAIL) {
      throw refused('BAD_IOTLB_TYPE', `back-end IOTLB message of type ${type}`);
    }
  }
}
