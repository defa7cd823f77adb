import type { Binding } from '../virtio/ports.js';
import type { Msix } from './msix.js';
import type { InterruptHost, MsixMessage } from './ports.js';

/** Where the signals of an eventfd go now. */
type Route =
  /** Straight to the vector, by the host. */
  | { readonly kind: 'relay'; readonly message: MsixMessage }
  /** To the vector through this process, for hosts that cannot relay. */
  | { readonly kind: 'fire' }
  /** To the ISR and INTx. */
  | { readonly kind: 'intx' }
  /** Nowhere: they stay in the eventfd. */
  | { readonly kind: 'hold' };

/** Follows the state of MSI-X with the binding of one eventfd to one vector. */
export class KickBinding {
  #route: Route = { kind: 'hold' };
  #binding: Binding | undefined;
  #closed = false;

  constructor(
    private readonly eventfd: number,
    readonly vector: number,
    private readonly host: InterruptHost,
    private readonly msix: Msix | undefined,
    private readonly raiseIntx: () => void,
  ) {
    this.update();
  }

  /** MSI-X was enabled, disabled, masked, unmasked, or the vector's message or taker has changed. */
  update(): void {
    if (this.#closed) return;
    const route = this.#wanted();
    if (sameRoute(route, this.#route)) return;
    this.#unbind();
    this.#route = route;
    const { host, eventfd, vector, msix } = this;
    if (route.kind === 'relay') {
      this.#binding = host.bindEventFd?.(eventfd, vector, route.message);
    } else if (route.kind === 'fire') {
      this.#binding = host.watchEventFd(eventfd, () => msix?.fire(vector));
    } else if (route.kind === 'intx') {
      this.#binding = host.watchEventFd(eventfd, this.raiseIntx);
    }
  }

  close(): void {
    this.#closed = true;
    this.#unbind();
  }

  #unbind(): void {
    this.#binding?.close();
    this.#binding = undefined;
  }

  #wanted(): Route {
    const { host, msix, vector } = this;
    const message = msix?.deliverable(vector);
    if (message && (msix?.enabled || host.takes?.(vector) !== false)) {
      return host.bindEventFd ? { kind: 'relay', message } : { kind: 'fire' };
    }
    if (!msix?.enabled) return { kind: 'intx' };
    // Masked. A host that cannot relay lets the table remember the signal as a pending bit.
    return vector < msix.vectorCount && !host.bindEventFd ? { kind: 'fire' } : { kind: 'hold' };
  }
}

function sameRoute(a: Route, b: Route): boolean {
  if (a.kind !== 'relay' || b.kind !== 'relay') return a.kind === b.kind;
  return a.message.address === b.message.address && a.message.data === b.message.data;
}
