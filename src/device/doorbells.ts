import { VvuError } from '../errors.js';
import type { Native } from '../native.js';
import type { DoorbellKind } from '../tunnel/ports.js';
import type { RegisterBlock } from '../virtio/ports.js';
import type { Binding, DoorbellHost } from './ports.js';

type Fds = Pick<Native, 'checkEventFd' | 'closeFd' | 'signalEventFd'>;

interface Bound {
  readonly fd: number;
  readonly binding: Binding;
}

/**
 * Number of doorbells for a number of vrings: one call doorbell per vring, the log doorbell (these
 * are the RFC's max_vhost_queues + 1), and behind them one err doorbell per vring.
 */
export function doorbellCount(maxVhostQueues: number): number {
  return 2 * maxVhostQueues + 1;
}

/**
 * The doorbells and the eventfds behind them. Owns every eventfd that was bound, and closes it when
 * it is replaced or taken back.
 */
export class Doorbells {
  readonly #bound = new Map<number, Bound>();

  constructor(
    private readonly fds: Fds,
    private readonly host: DoorbellHost,
    private readonly maxVhostQueues: number,
  ) {}

  /** Index in the doorbell array. */
  index(kind: DoorbellKind, vring: number): number {
    if (kind === 'log') return this.maxVhostQueues;
    if (!Number.isInteger(vring) || vring < 0 || vring >= this.maxVhostQueues) {
      throw new VvuError(
        'VRING_INDEX',
        'request',
        `vring index ${vring} is not below ${this.maxVhostQueues}`,
      );
    }
    return kind === 'call' ? vring : this.maxVhostQueues + 1 + vring;
  }

  /** Takes ownership of `fd`; undefined unbinds. */
  bind(kind: DoorbellKind, vring: number, fd: number | undefined): void {
    try {
      const index = this.index(kind, vring);
      if (fd !== undefined) this.fds.checkEventFd(fd);
      this.#release(index);
      if (fd !== undefined) this.#bound.set(index, { fd, binding: this.host.bind(index, fd) });
    } catch (error) {
      if (fd !== undefined) this.fds.closeFd(fd);
      throw asRequestError(error, kind, vring);
    }
  }

  /** A doorbell write that the host did not handle by itself. */
  ring(index: number): void {
    const bound = this.#bound.get(index);
    if (bound) this.fds.signalEventFd(bound.fd);
  }

  /** Indices that are bound at the moment. */
  get bound(): readonly number[] {
    return [...this.#bound.keys()].sort((a, b) => a - b);
  }

  clear(): void {
    for (const index of [...this.#bound.keys()]) this.#release(index);
  }

  #release(index: number): void {
    const bound = this.#bound.get(index);
    if (!bound) return;
    this.#bound.delete(index);
    bound.binding.close();
    this.fds.closeFd(bound.fd);
  }
}

/** The doorbell registers as a block of `count` registers of `stride` bytes each; they read 0. */
export class DoorbellRegisters implements RegisterBlock {
  readonly size: number;

  constructor(
    private readonly doorbells: Doorbells,
    readonly count: number,
    readonly stride: number,
  ) {
    this.size = count * stride;
  }

  read(_offset: number, target: Uint8Array): void {
    target.fill(0);
  }

  write(offset: number, bytes: Uint8Array): void {
    const last = Math.floor((offset + bytes.length - 1) / this.stride);
    for (let index = Math.floor(offset / this.stride); index <= last; index++) {
      this.doorbells.ring(index);
    }
  }
}

/** An fd that is no eventfd, or a vector that nobody can serve, is the frontend's fault. */
export function asRequestError(error: unknown, what: string, vring: number): VvuError {
  if (error instanceof VvuError) return error;
  const detail = error instanceof Error ? error.message : String(error);
  return new VvuError('BAD_EVENTFD', 'request', `${what} fd of vring ${vring}: ${detail}`, {
    cause: error,
  });
}
