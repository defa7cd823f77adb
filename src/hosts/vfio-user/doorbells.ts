import type { Binding, DoorbellHost } from '../../device/ports.js';
import type { Native, NativeFastRegions, NativeRelay } from '../../native.js';

/** Where the doorbells are: `count` registers of `stride` bytes from `offset` of a region. */
export interface DoorbellPlace {
  readonly region: number;
  readonly offset: number;
  readonly stride: number;
  readonly count: number;
}

/** An eventfd that a client may bind to a doorbell (ioeventfd), instead of sending a message. */
export interface DoorbellEventFd {
  readonly index: number;
  /** Offset in the region, and bytes. */
  readonly offset: number;
  readonly size: number;
  readonly eventfd: number;
}

/**
 * Doorbells over vfio-user. A store that arrives as a message is answered in the socket's C++
 * callback; a client that asks for ioeventfds gets eventfds of ours, which the relay thread passes
 * on, since the frontend's own eventfds come and go while the client keeps what it got.
 */
export class VfioUserDoorbells implements DoorbellHost {
  readonly #targets = new Map<number, number>();
  readonly #sources = new Map<number, number>();
  readonly #relays = new Map<number, NativeRelay>();

  constructor(
    private readonly native: Pick<Native, 'createEventFd' | 'relayEventFd' | 'closeFd'>,
    private readonly fast: NativeFastRegions,
    private readonly place: DoorbellPlace,
  ) {
    fast.setDoorbells(place.region, place.offset, place.stride, place.count);
  }

  bind(index: number, eventfd: number): Binding {
    if (index >= this.place.count) return { close: () => undefined };
    this.#targets.set(index, eventfd);
    try {
      this.fast.setDoorbell(index, eventfd);
      this.#connect(index);
    } catch (error) {
      // The caller closes the eventfd now: nothing may remember its number.
      this.#unbind(index);
      throw error;
    }
    return { close: () => this.#unbind(index) };
  }

  /** Eventfds for the first `limit` doorbells, made when a client asks for them. */
  eventFds(limit: number): DoorbellEventFd[] {
    const { offset, stride, count } = this.place;
    return Array.from({ length: Math.min(limit, count) }, (_, index) => {
      let eventfd = this.#sources.get(index);
      if (eventfd === undefined) {
        eventfd = this.native.createEventFd();
        this.#sources.set(index, eventfd);
        this.#connect(index);
      }
      return { index, offset: offset + index * stride, size: stride, eventfd };
    });
  }

  /** The client left: what it may have kept must ring nothing of the next one. */
  revokeEventFds(): void {
    for (const [index, eventfd] of this.#sources) {
      this.#disconnect(index);
      this.native.closeFd(eventfd);
    }
    this.#sources.clear();
  }

  #connect(index: number): void {
    const source = this.#sources.get(index);
    const target = this.#targets.get(index);
    if (source === undefined || target === undefined) return;
    this.#disconnect(index);
    this.#relays.set(index, this.native.relayEventFd(source, target));
  }

  #disconnect(index: number): void {
    this.#relays.get(index)?.close();
    this.#relays.delete(index);
  }

  #unbind(index: number): void {
    this.#disconnect(index);
    this.#targets.delete(index);
    this.fast.setDoorbell(index, -1);
  }
}
