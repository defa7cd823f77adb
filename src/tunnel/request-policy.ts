import { VvuError } from '../errors.js';
import {
  frontendMessage,
  hex,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_UPDATE,
  VIRTIO_F_IOMMU_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTQUEUE_MAX_SIZE,
  type ByteOrder,
  type Frame,
  type FrontendRequest,
  type Iotlb,
  type MessageDescriptor,
  type VringAddress,
} from '../vhost-user/index.js';
import type { FrontendMemory } from './frontend-memory.js';
import type { Negotiation } from './negotiation.js';
import type { UnknownRequestPolicy } from './unknown-requests.js';

/** A request that has passed all checks; `request` is undefined for one that is in no table. */
export interface CheckedRequest {
  readonly descriptor: MessageDescriptor;
  readonly request?: FrontendRequest;
}

function refused(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

/**
 * Decides whether a request may reach the guest. Drivers in the wild abort() on what they dislike,
 * so everything that can be known here is checked here.
 */
export class RequestPolicy {
  constructor(
    private readonly order: ByteOrder,
    private readonly maxVhostQueues: number,
    private readonly negotiation: Negotiation,
    private readonly memory: FrontendMemory,
    private readonly unknown: UnknownRequestPolicy,
  ) {}

  /**
   * Decodes and checks one request, and takes note of what it negotiates.
   * @throws VvuError of scope `request`
   */
  check(frame: Frame, fdCount: number): CheckedRequest {
    const descriptor = frontendMessage(frame.request);
    if (descriptor === undefined) {
      return { descriptor: this.unknown.check('frontend', frame, fdCount) };
    }
    this.negotiation.check(descriptor);
    const value = descriptor.request.decode(frame.payload, this.order);
    // The table's types tie each name to its payload codec, which is where `value` comes from.
    const request = { name: descriptor.name, value } as FrontendRequest;
    this.#checkFds(descriptor, value, fdCount);
    this.#checkVringIndex(descriptor, value);
    this.#checkValue(request);
    return { descriptor, request };
  }

  #checkFds(descriptor: MessageDescriptor, value: unknown, fdCount: number): void {
    const { min, max } = descriptor.fds;
    const exact = descriptor.fdCount?.(value);
    if (fdCount < (exact ?? min) || fdCount > (exact ?? max)) {
      throw refused(
        'BAD_FDS',
        `${descriptor.name} with ${fdCount} fds, expected ` +
          (exact === undefined ? `${min} to ${max}` : String(exact)),
      );
    }
  }

  #checkVringIndex(descriptor: MessageDescriptor, value: unknown): void {
    const index = descriptor.vring?.(value);
    if (index !== undefined && index >= this.maxVhostQueues) {
      throw refused(
        'BAD_VRING',
        `${descriptor.name} of vring ${index}, there are ${this.maxVhostQueues}`,
      );
    }
  }

  #checkValue(request: FrontendRequest): void {
    switch (request.name) {
      case 'SET_FEATURES':
        this.negotiation.acceptFeatures(request.value);
        break;
      case 'SET_PROTOCOL_FEATURES':
        this.negotiation.acceptProtocolFeatures(request.value);
        break;
      case 'SET_VRING_NUM':
        this.#checkQueueSize(request.value.num);
        break;
      case 'SET_VRING_BASE':
        this.#checkBase(request.value.num);
        break;
      case 'SET_VRING_ADDR':
        this.#checkAddresses(request.value);
        break;
      case 'IOTLB_MSG':
        this.#checkIotlb(request.value);
        break;
      default:
        break;
    }
  }

  /** The other two types are the back-end's to send. */
  #checkIotlb({ type, userAddress }: Iotlb): void {
    if (type !== VHOST_IOTLB_UPDATE && type !== VHOST_IOTLB_INVALIDATE) {
      throw refused('BAD_IOTLB_TYPE', `IOTLB_MSG of type ${type}`);
    }
    if (type === VHOST_IOTLB_UPDATE && !this.memory.contains(userAddress)) {
      throw refused('BAD_IOTLB_ADDRESS', `user address ${hex(userAddress)} is not in the memory`);
    }
  }

  /** Virtio 1.3 §2.7: a power of two; §2.8.10.1: any number for a packed ring. */
  #checkQueueSize(num: number): void {
    const powerOfTwo = (num & (num - 1)) === 0;
    if (
      num === 0 ||
      num > VIRTQUEUE_MAX_SIZE ||
      !(powerOfTwo || this.negotiation.accepted(VIRTIO_F_RING_PACKED))
    ) {
      throw refused('BAD_QUEUE_SIZE', `SET_VRING_NUM with ${num} descriptors`);
    }
  }

  /** A split ring's index has 16 bits, "Bits 16-31: Reserved". */
  #checkBase(num: number): void {
    if (num > 0xffff && !this.negotiation.accepted(VIRTIO_F_RING_PACKED)) {
      throw refused('BAD_VRING_BASE', `SET_VRING_BASE with ${hex(num)} for a split ring`);
    }
  }

  /**
   * The three parts start in the frontend's memory, aligned as virtio 1.3 §2.7 and §2.8 ask. Behind
   * a vIOMMU they are I/O virtual addresses, which the back-end has to ask the frontend for.
   */
  #checkAddresses({ index, descriptor, used, available }: VringAddress): void {
    const translated = this.negotiation.accepted(VIRTIO_F_IOMMU_PLATFORM);
    if (this.memory.empty && !translated) {
      throw refused('NO_MEMORY_TABLE', `SET_VRING_ADDR of vring ${index} before a memory table`);
    }
    const packed = this.negotiation.accepted(VIRTIO_F_RING_PACKED);
    const parts: readonly [string, bigint, bigint][] = [
      ['descriptor', descriptor, 16n],
      ['used', used, 4n],
      ['available', available, packed ? 4n : 2n],
    ];
    for (const [name, address, alignment] of parts) {
      if (address % alignment !== 0n) {
        throw refused('BAD_VRING_ADDRESS', `${name} address ${hex(address)} is not aligned`);
      }
      if (!translated && !this.memory.contains(address)) {
        throw refused('BAD_VRING_ADDRESS', `${name} address ${hex(address)} is not in the memory`);
      }
    }
  }
}
