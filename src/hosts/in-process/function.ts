import { EventEmitter } from 'eventemitter3';
import type { PciFunction } from '../../pci/index.js';
import type { Cleanup } from '../cleanup.js';
import type { BarDefinition, VirtioVhostUserEvents, WindowPlace } from './options.js';

const WIDTHS = [1, 2, 4, 8];

/**
 * A virtio-vhost-user device as a PCI function. Whatever a guest accesses, nothing is thrown: an
 * access that is no PCI access (odd width, outside of its BAR) reads all ones and writes nothing.
 */
export class VirtioVhostUserFunction extends EventEmitter<VirtioVhostUserEvents> {
  /** The BARs: index, size in bytes, kind, prefetchable. */
  readonly bars: readonly BarDefinition[];
  readonly #configSize: number;

  constructor(
    private readonly pci: PciFunction,
    /** Where the window lies; offsets that `window.map` gets count from there. */
    readonly window: WindowPlace,
    /** Textual UUID of the device. */
    readonly uuid: string,
    private readonly cleanup: Cleanup,
  ) {
    super();
    const { bars, configSize } = pci.describe();
    this.bars = bars;
    this.#configSize = configSize;
  }

  /** Fills `target` (1, 2, 4 or 8 bytes, little-endian) from configuration space. */
  configRead(offset: number, target: Uint8Array): void {
    if (legal(offset, target.length, this.#configSize)) this.pci.configRead(offset, target);
    else target.fill(0xff);
  }

  configWrite(offset: number, bytes: Uint8Array): void {
    if (legal(offset, bytes.length, this.#configSize)) this.pci.configWrite(offset, bytes);
  }

  /** `offset` counts from the start of the BAR; the caller decodes addresses. */
  barRead(bar: number, offset: number, target: Uint8Array): void {
    if (legal(offset, target.length, this.pci.barSize(bar))) this.pci.barRead(bar, offset, target);
    else target.fill(0xff);
  }

  barWrite(bar: number, offset: number, bytes: Uint8Array): void {
    if (legal(offset, bytes.length, this.pci.barSize(bar))) this.pci.barWrite(bar, offset, bytes);
  }

  /** Where the guest has placed a BAR; undefined while memory accesses are not decoded. */
  barAddress(bar: number): bigint | undefined {
    return this.pci.barAddress(bar);
  }

  /** Reset of the bus or of the machine. */
  reset(): void {
    this.pci.reset('conventional');
  }

  /** When it resolves no fd, mapping or socket of the device is left. */
  close(): Promise<void> {
    return this.cleanup.run();
  }
}

function legal(offset: number, width: number, size: number): boolean {
  return (
    WIDTHS.includes(width) && Number.isSafeInteger(offset) && offset >= 0 && offset + width <= size
  );
}
