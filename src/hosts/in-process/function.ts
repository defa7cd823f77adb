import { EventEmitter } from 'eventemitter3';
import { VvuError } from '../../errors.js';
import type { PciFunction } from '../../pci/index.js';
import type { Cleanup } from '../cleanup.js';
import { tell, type Failures } from './failures.js';
import type { BarDefinition, VirtioVhostUserEvents, WindowPlace } from './options.js';

/** What a function is made of. */
export interface FunctionParts {
  readonly pci: PciFunction;
  readonly window: WindowPlace;
  readonly uuid: string;
  readonly failures: Failures;
  readonly cleanup: Cleanup;
}

/**
 * A virtio-vhost-user device as a PCI function, made by `createVirtioVhostUserDevice`.
 *
 * Whatever a guest accesses, nothing is thrown: an access that is none (outside of its BAR, or after
 * `close`) reads all ones and writes nothing, as on a bus where nobody answers, and is reported by
 * an `error` event the first time. All methods are to be called on the thread that made the device.
 */
export class VirtioVhostUserFunction extends EventEmitter<VirtioVhostUserEvents> {
  /** The BARs: index, size in bytes, kind, prefetchable. A `memory64` takes two indices. */
  readonly bars: readonly BarDefinition[];
  /** Where the window lies; offsets that `window.map` gets count from there. */
  readonly window: WindowPlace;
  /** Textual UUID of the device. */
  readonly uuid: string;
  readonly #parts: FunctionParts;
  readonly #configSize: number;
  readonly #reported = new Set<string>();
  #places: readonly (bigint | undefined)[] = [];
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(parts: FunctionParts) {
    super();
    const { bars, configSize } = parts.pci.describe();
    this.bars = bars;
    this.window = parts.window;
    this.uuid = parts.uuid;
    this.#configSize = configSize;
    this.#parts = parts;
  }

  /** Fills `target` from configuration space (4,096 bytes), little-endian, of any length. */
  configRead(offset: number, target: Uint8Array): void {
    if (this.#legal('config', offset, target.length)) this.#parts.pci.configRead(offset, target);
    else target.fill(0xff);
  }

  /** Stores `bytes` to configuration space. */
  configWrite(offset: number, bytes: Uint8Array): void {
    if (!this.#legal('config', offset, bytes.length)) return;
    this.#parts.pci.configWrite(offset, bytes);
    this.#tellMoves();
  }

  /**
   * Fills `target` from a BAR; `offset` counts from its start, and the caller decodes addresses. Any
   * length and alignment will do; what a guest sees of its own accesses is a length of 1 to 8.
   */
  barRead(bar: number, offset: number, target: Uint8Array): void {
    if (this.#legal(bar, offset, target.length)) this.#parts.pci.barRead(bar, offset, target);
    else target.fill(0xff);
  }

  /** Stores `bytes` to a BAR. One access of the guest should be one call: registers have widths. */
  barWrite(bar: number, offset: number, bytes: Uint8Array): void {
    if (this.#legal(bar, offset, bytes.length)) this.#parts.pci.barWrite(bar, offset, bytes);
  }

  /**
   * Where the guest has placed a BAR; undefined while memory accesses are not decoded. `bars-moved`
   * tells of changes.
   */
  barAddress(bar: number): bigint | undefined {
    return this.closed ? undefined : this.#parts.pci.barAddress(bar);
  }

  /** Reset of the bus or of the machine. The frontend is disconnected before it returns. */
  reset(): void {
    if (this.closed) return;
    this.#parts.pci.reset('conventional');
    this.#tellMoves();
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Unplugs the device: INTA is lowered and the frontend disconnected before it returns. When it
   * resolves no fd, mapping or socket of the device is left; a port that does not end delays it by
   * `window.timeoutMs` at most. May be called again, for the same promise.
   * @throws AggregateError (by rejection) when `unmap` failed; everything else is undone then
   */
  close(): Promise<void> {
    if (this.#closing) return this.#closing;
    this.#parts.pci.reset('conventional');
    this.#closing = this.#parts.cleanup.run();
    this.#tellMoves();
    return this.#closing;
  }

  #tellMoves(): void {
    const places = this.bars.map(({ index }) => this.barAddress(index));
    if (places.every((place, i) => place === this.#places[i])) return;
    this.#places = places;
    tell(() => this.emit('bars-moved'));
  }

  #legal(where: number | 'config', offset: number, length: number): boolean {
    const { pci, failures } = this.#parts;
    const size = where === 'config' ? this.#configSize : pci.barSize(where);
    const inside = Number.isSafeInteger(offset) && offset >= 0 && offset + length <= size;
    if (inside && !this.closed) return true;
    const place = where === 'config' ? 'configuration space' : `BAR ${where}`;
    const kind = this.closed ? 'closed' : place;
    // Guests can do it, as often as they like.
    if (this.#reported.has(kind)) return false;
    this.#reported.add(kind);
    const why = this.closed ? 'the device is closed' : `it has ${size} bytes`;
    const what = `access to ${length} bytes at ${offset} of ${place}: ${why}`;
    failures.report(new VvuError('BAD_ACCESS', 'bug', what));
    return false;
  }
}
