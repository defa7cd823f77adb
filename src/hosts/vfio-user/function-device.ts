import type {
  DmaMapping,
  RegionIoFd,
  VfioUserConnection,
  VfioUserDevice,
  VfioUserIrqInfo,
  VfioUserRegion,
} from 'vfio-ts-bindings';
import {
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_REGIONS,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD,
} from 'vfio-ts-bindings';
import type { PciFunction } from '../../pci/index.js';
import type { DmaMemory } from './dma.js';
import type { VfioUserDoorbells } from './doorbells.js';
import { VfioUserInterrupts } from './interrupts.js';
import type { VfioUserWindow } from './window.js';

/** What a function over vfio-user is made of. */
export interface FunctionParts {
  readonly pci: PciFunction;
  readonly dma: DmaMemory;
  readonly interrupts: VfioUserInterrupts;
  readonly window: VfioUserWindow;
  readonly doorbells: VfioUserDoorbells;
  /** vfio-user region indices, which are BAR numbers. */
  readonly windowRegion: number;
  readonly doorbellRegion: number;
  readonly closed: (reason: string, detail: string) => void;
}

const NO_REGION: VfioUserRegion = { size: 0, readable: false, writable: false };

/** A PCI function as a vfio-user server sees it: regions are the BARs and configuration space. */
export class FunctionDevice implements VfioUserDevice {
  readonly regions: readonly VfioUserRegion[];
  readonly irqs: readonly VfioUserIrqInfo[];
  #maxFds = 0;
  #negotiated = false;

  constructor(private readonly parts: FunctionParts) {
    const { pci, window, windowRegion } = parts;
    const { bars, configSize, msixVectors } = pci.describe();
    const regions = Array.from({ length: VFIO_PCI_NUM_REGIONS }, () => NO_REGION);
    for (const { index, size } of bars) {
      regions[index] = { size, readable: true, writable: true };
    }
    regions[VFIO_PCI_CONFIG_REGION_INDEX] = { size: configSize, readable: true, writable: true };
    const windowBar = regions[windowRegion];
    if (windowBar && window.mmap) regions[windowRegion] = { ...windowBar, mmap: window.mmap };
    this.regions = regions;
    this.irqs = VfioUserInterrupts.irqs(msixVectors);
  }

  /** Whether the connected client has negotiated a version. */
  get negotiated(): boolean {
    return this.#negotiated;
  }

  regionRead(index: number, offset: number, target: Uint8Array): void {
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) this.parts.pci.configRead(offset, target);
    else this.parts.pci.barRead(index, offset, target);
  }

  regionWrite(index: number, offset: number, data: Uint8Array): void {
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) this.parts.pci.configWrite(offset, data);
    else this.parts.pci.barWrite(index, offset, data);
  }

  /** As many doorbells as eventfds fit into one message to this client. */
  regionIoFds(index: number): readonly RegionIoFd[] {
    if (index !== this.parts.doorbellRegion) return [];
    return this.parts.doorbells.eventFds(this.#maxFds).map(({ offset, size, eventfd }) => ({
      offset,
      size,
      fd: eventfd,
      type: VFIO_USER_IO_FD_TYPE_IOEVENTFD,
      flags: 0,
      value: 0n,
    }));
  }

  dmaMap(mapping: DmaMapping): void {
    this.parts.dma.map(mapping);
  }

  dmaUnmap(address: number): void {
    this.parts.dma.unmap(address);
  }

  dmaUnmapAll(): void {
    this.parts.dma.clear();
  }

  reset(): void {
    this.parts.pci.reset('device-reset');
  }

  irqChanged(index: number, start: number, count: number): void {
    this.parts.interrupts.irqChanged(index, start, count);
    if (index === VFIO_PCI_MSIX_IRQ_INDEX) {
      this.parts.pci.interrupts.takersChanged(start, start + count);
    }
  }

  connected(connection: VfioUserConnection): void {
    this.#negotiated = true;
    this.#maxFds = connection.clientFeatures.maxMsgFds;
    this.parts.interrupts.connected(connection);
    this.parts.window.connected(connection);
  }

  /**
   * The VM is gone, or its VMM let go of the device. The next client gets a function that was just
   * powered on; nothing of it was worth keeping without the driver's memory.
   */
  closed(_connection: VfioUserConnection, reason: string, detail: string): void {
    this.#negotiated = false;
    this.parts.interrupts.disconnected();
    this.parts.window.disconnected();
    this.parts.pci.reset('conventional');
    this.parts.doorbells.revokeEventFds();
    this.parts.closed(reason, detail);
  }
}
