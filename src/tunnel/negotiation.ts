import { VvuError } from '../errors.js';
import {
  featureBit,
  hex,
  VHOST_USER_PROTOCOL_F_CRYPTO_SESSION,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  type ByteOrder,
  type MessageDescriptor,
} from '../vhost-user/index.js';
import { ALLOWED_PROTOCOL_FEATURES } from './policy.js';

function refused(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

function lists(mask: bigint | undefined, bit: number): boolean {
  return mask !== undefined && (mask & featureBit(bit)) !== 0n;
}

/** What was offered to the frontend of one connection, and what it accepted. */
export class Negotiation {
  readonly #protocolMask: bigint;
  #offered: bigint | undefined;
  #accepted: bigint | undefined;
  #offeredProtocol: bigint | undefined;
  #acceptedProtocol: bigint | undefined;

  /** @param hidden protocol features that no frontend shall see, as a mask */
  constructor(order: ByteOrder, hidden = 0n) {
    // A crypto session's structure is QEMU's own, so nobody can swap it for a little-endian guest.
    const unswappable = order === 'BE' ? featureBit(VHOST_USER_PROTOCOL_F_CRYPTO_SESSION) : 0n;
    this.#protocolMask = ALLOWED_PROTOCOL_FEATURES & ~unswappable & ~hidden;
  }

  /** Whether need_reply asks for an acknowledgement. */
  get replyAck(): boolean {
    return lists(this.#acceptedProtocol, VHOST_USER_PROTOCOL_F_REPLY_ACK);
  }

  /** Whether SET_FEATURES accepted a feature bit. */
  accepted(bit: number): boolean {
    return lists(this.#accepted, bit);
  }

  /** The guest's GET_FEATURES reply, as the frontend may see it. */
  offerFeatures(value: bigint): bigint {
    return (this.#offered = value);
  }

  /** The guest's GET_PROTOCOL_FEATURES reply, as the frontend may see it. */
  offerProtocolFeatures(value: bigint): bigint {
    return (this.#offeredProtocol = value & this.#protocolMask);
  }

  /** @throws VvuError of scope `request` for a bit that was not offered on this connection */
  acceptFeatures(value: bigint): void {
    const excess = value & ~(this.#offered ?? 0n);
    if (excess !== 0n) {
      throw refused('FEATURES_NOT_OFFERED', `features ${hex(excess)} were not offered`);
    }
    this.#accepted = value;
  }

  /** @throws VvuError of scope `request` for a bit that was not offered on this connection */
  acceptProtocolFeatures(value: bigint): void {
    const excess = value & ~(this.#offeredProtocol ?? 0n);
    if (excess !== 0n) {
      throw refused('FEATURES_NOT_OFFERED', `protocol features ${hex(excess)} were not offered`);
    }
    this.#acceptedProtocol = value;
  }

  /**
   * Whether the message may be sent as negotiation stands. Until SET_PROTOCOL_FEATURES what was
   * offered counts, because GET_QUEUE_NUM and others are legal from then on.
   *
   * A connection on which GET_FEATURES was not asked yet is not held to `offered`: DPDK's
   * virtio-user stops its rings with SET_VRING_ENABLE first when it reconnects.
   * @throws VvuError `NOT_NEGOTIATED` of scope `request`
   */
  check(descriptor: MessageDescriptor): void {
    const { protocolFeature, offered, accepted } = descriptor.needs;
    const effective = this.#acceptedProtocol ?? this.#offeredProtocol;
    if (protocolFeature !== undefined && !lists(effective, protocolFeature)) {
      throw refused(
        'NOT_NEGOTIATED',
        `${descriptor.name} needs protocol feature ${protocolFeature}`,
      );
    }
    if (offered !== undefined && this.#offered !== undefined && !lists(this.#offered, offered)) {
      throw refused('NOT_NEGOTIATED', `${descriptor.name} needs feature ${offered}`);
    }
    if (accepted !== undefined && !lists(this.#accepted, accepted)) {
      throw refused('NOT_NEGOTIATED', `${descriptor.name} needs feature ${accepted}`);
    }
  }
}
