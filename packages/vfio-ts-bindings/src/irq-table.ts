import type { IrqAction } from './connection.js';
import type { SetIrqsRequest } from './codec/irq.js';
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
} from './constants.js';
import type { VfioUserIrqInfo } from './device.js';
import { messageOf, VfioUserError } from './errors.js';

interface Vector {
  /** Owned by the table. */
  readonly fds: Map<IrqAction, number>;
  masked: boolean;
  /** Triggered while masked. */
  pending: boolean;
}

/** What the table needs from its surroundings. */
export interface IrqPorts {
  /** Adds 1 to an eventfd. */
  signal(fd: number): void;
  /** Throws if the fd is no eventfd. */
  check(fd: number): void;
  close(fd: number): void;
  changed(index: number, start: number, count: number): void;
  warn(text: string): void;
}

/**
 * The client's interrupt configuration: an eventfd per vector and action, and mask states
 * (VFIO_USER_DEVICE_SET_IRQS). A request is applied as a whole or refused as a whole.
 */
export class IrqTable {
  readonly #vectors: Vector[][];

  constructor(
    private readonly infos: readonly VfioUserIrqInfo[],
    private readonly ports: IrqPorts,
  ) {
    this.#vectors = infos.map(({ count }) =>
      Array.from({ length: count }, () => ({
        fds: new Map<IrqAction, number>(),
        masked: false,
        pending: false,
      })),
    );
  }

  /**
   * Applies a request. The fds are taken out of `fds` when they are accepted; what is left in the
   * array when this returns or throws is the caller's to close.
   * @throws VfioUserError EINVAL: no such index or vector, an action or data type that the index
   * does not have, a number of fds that is neither 0 nor `count`, an fd that is no eventfd
   */
  set(request: SetIrqsRequest, fds: number[]): void {
    const { index, start, count, flags, bools } = request;
    const info = this.infos[index];
    if (info === undefined) throw new VfioUserError('EINVAL', `no IRQ index ${index}`);
    // The codec lets a count of 0 pass for "disable the index" alone.
    if (count === 0) {
      if (fds.length > 0) throw new VfioUserError('EINVAL', 'fds with an IRQ disable');
      this.disable(index);
      return;
    }
    if (start + count > info.count) {
      throw new VfioUserError('EINVAL', `IRQ ${index} has no vectors ${start} + ${count}`);
    }
    const action = actionOf(flags);
    if (action !== 'trigger' && (info.flags & VFIO_IRQ_INFO_MASKABLE) === 0) {
      throw new VfioUserError('EINVAL', `IRQ ${index} is not maskable`);
    }
    if ((flags & VFIO_IRQ_SET_DATA_TYPE_MASK) === VFIO_IRQ_SET_DATA_EVENTFD) {
      this.#checkFds(info, count, fds);
      this.#assign(index, start, count, action, fds.splice(0));
    } else {
      if (fds.length > 0) throw new VfioUserError('EINVAL', 'fds without IRQ_SET_DATA_EVENTFD');
      for (let i = 0; i < count; i += 1) {
        if (bools?.[i] !== 0) this.#act(index, start + i, action);
      }
    }
    this.ports.changed(index, start, count);
  }

  eventFd(index: number, vector: number, action: IrqAction): number | undefined {
    return this.#vectors[index]?.[vector]?.fds.get(action);
  }

  masked(index: number, vector: number): boolean {
    return this.#vectors[index]?.[vector]?.masked ?? false;
  }

  /** Signals the vector, or remembers it while it is masked. @returns whether it was signalled */
  trigger(index: number, vector: number): boolean {
    const state = this.#vectors[index]?.[vector];
    const fd = state?.fds.get('trigger');
    if (state === undefined || fd === undefined) return false;
    if (state.masked) {
      state.pending = true;
      return false;
    }
    state.pending = false;
    const automasked = ((this.infos[index]?.flags ?? 0) & VFIO_IRQ_INFO_AUTOMASKED) !== 0;
    const signalled = this.#signal(fd);
    if (automasked) this.#mask(state);
    return signalled;
  }

  clear(index: number, vector: number): void {
    const state = this.#vectors[index]?.[vector];
    if (state !== undefined) state.pending = false;
  }

  /** Takes all eventfds and masks of an index away. */
  disable(index: number): void {
    const vectors = this.#vectors[index] ?? [];
    for (const state of vectors) this.#resetVector(state);
    if (vectors.length > 0) this.ports.changed(index, 0, vectors.length);
  }

  /** The connection is over: closes every fd, without a notification. */
  close(): void {
    for (const state of this.#vectors.flat()) this.#resetVector(state);
  }

  #checkFds(info: VfioUserIrqInfo, count: number, fds: readonly number[]): void {
    if ((info.flags & VFIO_IRQ_INFO_EVENTFD) === 0) {
      throw new VfioUserError('EINVAL', 'IRQ does not support eventfds');
    }
    // No fds at all: "this de-assigns the specified previously configured interrupts".
    if (fds.length !== 0 && fds.length !== count) {
      throw new VfioUserError('EINVAL', `${fds.length} fds for ${count} interrupts`);
    }
    for (const fd of fds) {
      try {
        this.ports.check(fd);
      } catch (error) {
        throw new VfioUserError('EINVAL', `fd is no eventfd: ${messageOf(error)}`);
      }
    }
  }

  #assign(index: number, start: number, count: number, action: IrqAction, fds: number[]): void {
    for (let i = 0; i < count; i += 1) {
      const state = this.#vectors[index]?.[start + i];
      if (state === undefined) continue;
      const old = state.fds.get(action);
      const fd = fds[i];
      if (fd === undefined) state.fds.delete(action);
      else state.fds.set(action, fd);
      if (old !== undefined) this.ports.close(old);
      if (action === 'trigger' && fd === undefined) state.pending = false;
    }
  }

  #act(index: number, vector: number, action: IrqAction): void {
    const state = this.#vectors[index]?.[vector];
    if (state === undefined) return;
    if (action === 'trigger') this.trigger(index, vector);
    else if (action === 'mask') this.#mask(state);
    else this.#unmask(index, vector, state);
  }

  #mask(state: Vector): void {
    if (state.masked) return;
    state.masked = true;
    this.#tell(state, 'mask');
  }

  #unmask(index: number, vector: number, state: Vector): void {
    if (!state.masked) return;
    state.masked = false;
    this.#tell(state, 'unmask');
    if (state.pending) this.trigger(index, vector);
  }

  #tell(state: Vector, action: IrqAction): void {
    const fd = state.fds.get(action);
    if (fd !== undefined) this.#signal(fd);
  }

  #resetVector(state: Vector): void {
    for (const fd of state.fds.values()) this.ports.close(fd);
    state.fds.clear();
    state.masked = false;
    state.pending = false;
  }

  #signal(fd: number): boolean {
    try {
      this.ports.signal(fd);
      return true;
    } catch (error) {
      this.ports.warn(`cannot signal an interrupt: ${messageOf(error)}`);
      return false;
    }
  }
}

function actionOf(flags: number): IrqAction {
  const action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
  if (action === VFIO_IRQ_SET_ACTION_MASK) return 'mask';
  return action === VFIO_IRQ_SET_ACTION_UNMASK ? 'unmask' : 'trigger';
}
