import { VvuError } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import {
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_MODERN_DEVICE_ID_BASE,
} from '../virtio/constants.js';
import type {
  AuxiliaryIndices,
  GuestMemory,
  RegisterBlock,
  VirtioDevice,
} from '../virtio/ports.js';
import { pciCfgCapability, virtioCapability, type VirtioCapability } from './capabilities.js';
import type { CommandState, PciIds } from './config-space.js';
import { PciFunction } from './function.js';
import type { FunctionInterrupts } from './interrupts.js';
import { NOTIFY_OFF_MULTIPLIER } from './notify.js';
import type { Bar, BarDefinition, BarRegion, Placement } from './ports.js';
import { VirtioPciTransport } from './virtio-pci.js';

/** A block beside the virtio structures: doorbells, a window, ... */
export interface BlockPlacement extends Placement {
  readonly block: RegisterBlock;
  /** Bytes of the BAR that it takes, default all of the block. */
  readonly length?: number;
}

export interface VirtioPciOptions {
  readonly device: VirtioDevice;
  /** The driver's memory, handed to the device. */
  readonly memory: GuestMemory;
  readonly interrupts: FunctionInterrupts;
  /** Default: vendor 1af4, device 1040 + virtio id. */
  readonly ids?: Partial<PciIds>;
  readonly bars: readonly BarDefinition[];
  /** Where the virtio structures start. `device` is left out for a device without configuration. */
  readonly structures: {
    readonly common: Placement;
    /** `length`: bytes that the capability covers, where blocks behind the queues' belong to it. */
    readonly notify: Placement & { readonly length?: number };
    readonly isr: Placement;
    readonly device?: Placement;
  };
  /** Where the MSI-X structures start, for interrupts with vectors. */
  readonly msix?: { readonly table: Placement; readonly pba: Placement };
  readonly blocks?: readonly BlockPlacement[];
  /** Capabilities beside those of type 1 to 5, in this order after them. */
  readonly capabilities?: readonly VirtioCapability[];
  /** What queue indices behind the virtqueues' mean, default nothing. */
  readonly auxiliary?: AuxiliaryIndices;
  readonly onCommand?: (command: CommandState) => void;
  readonly logger?: Logger;
}

export interface VirtioPciFunction {
  readonly function: PciFunction;
  readonly transport: VirtioPciTransport;
}

/**
 * Dresses a virtio device in a PCI function, with every structure where the caller wants it.
 *
 * @throws VvuError of scope `setup` when structures overlap, leave their BAR, or do not fit
 */
export function composeVirtioPciFunction(options: VirtioPciOptions): VirtioPciFunction {
  const logger = options.logger ?? silentLogger;
  const { device, memory, interrupts, ids } = options;
  const transport = new VirtioPciTransport(device, memory, interrupts, logger, options.auxiliary);
  const structures = virtioStructures(options, transport);
  const blocks = [...structures, ...(options.blocks ?? [])];
  const standard = structures.map(({ capability }) => capability);
  const extra = options.capabilities ?? [];
  checkPlacements(options.bars, [...blocks, ...standard, ...extra]);

  const pci: PciFunction = new PciFunction({
    ids: {
      vendorId: PCI_VENDOR_ID_REDHAT_QUMRANET,
      deviceId: VIRTIO_PCI_MODERN_DEVICE_ID_BASE + device.virtioId,
      ...ids,
    },
    bars: options.bars.map((bar) => withRegions(bar, blocks)),
    capabilities: [
      ...standard.map(virtioCapability),
      pciCfgCapability({
        barSize: (bar) => pci.barSize(bar),
        barRead: (bar, offset, target) => pci.barRead(bar, offset, target),
        barWrite: (bar, offset, bytes) => pci.barWrite(bar, offset, bytes),
      }),
      ...extra.map(virtioCapability),
    ],
    interrupts,
    ...(options.msix && { msix: options.msix }),
    onReset: () => transport.reset(),
    ...(options.onCommand && { onCommand: options.onCommand }),
    logger,
  });
  return { function: pci, transport };
}

interface Structure extends BlockPlacement {
  readonly capability: VirtioCapability;
}

function virtioStructures(options: VirtioPciOptions, transport: VirtioPciTransport): Structure[] {
  const { common, notify, isr, device } = options.structures;
  const structure = (
    cfgType: number,
    at: Placement & { readonly length?: number },
    block: RegisterBlock,
    multiplier?: number,
  ): Structure => {
    const where = { bar: at.bar, offset: at.offset };
    const tail = multiplier === undefined ? {} : { multiplier };
    const capability = { cfgType, ...where, length: at.length ?? block.size, ...tail };
    return { ...where, length: block.size, block, capability };
  };
  const list = [
    structure(VIRTIO_PCI_CAP_COMMON_CFG, common, transport.common),
    structure(VIRTIO_PCI_CAP_NOTIFY_CFG, notify, transport.notify, NOTIFY_OFF_MULTIPLIER),
    structure(VIRTIO_PCI_CAP_ISR_CFG, isr, transport.isr),
  ];
  if (device) list.push(structure(VIRTIO_PCI_CAP_DEVICE_CFG, device, transport.deviceConfig));
  return list;
}

function withRegions(bar: BarDefinition, blocks: readonly BlockPlacement[]): Bar {
  const regions: BarRegion[] = blocks
    .filter((block) => block.bar === bar.index)
    .map(({ offset, block, length = block.size }) => ({ offset, length, block }));
  return { ...bar, regions };
}

/** Overlaps are found when the function checks its regions; here, what points into no BAR. */
function checkPlacements(
  bars: readonly BarDefinition[],
  placed: readonly (Placement & { readonly length?: number })[],
): void {
  for (const { bar: index, offset, length = 0 } of placed) {
    const bar = bars.find((candidate) => candidate.index === index);
    // §4.1.4.1: structures are dword aligned at least; only then can drivers use any of them.
    if (!bar || !Number.isSafeInteger(offset) || offset < 0 || offset % 4 !== 0) {
      throw new VvuError('BAD_LAYOUT', 'setup', `no structure can be at ${offset} of BAR ${index}`);
    }
    if (offset + length > bar.size) {
      const what = `${length} bytes at ${offset} leave BAR ${index} of ${bar.size} bytes`;
      throw new VvuError('BAD_LAYOUT', 'setup', what);
    }
  }
}
