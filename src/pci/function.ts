import { VvuError, errorCode, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import { BarSpace, checkBars } from './bars.js';
import {
  msixCapability,
  pciExpressCapability,
  type BarAccess,
  type Capability,
} from './capabilities.js';
import { ConfigSpace, type CommandState, type PciIds } from './config-space.js';
import {
  PCI_CAP_EXP_ENDPOINT_SIZEOF_V2,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_CFG_SPACE_SIZE,
  PCI_STD_HEADER_SIZEOF,
} from './constants.js';
import type { FunctionInterrupts } from './interrupts.js';
import type { Bar, BarDefinition, Placement, ResetKind } from './ports.js';

export interface PciFunctionOptions {
  readonly ids: PciIds;
  readonly bars: readonly Bar[];
  /** Capabilities after PCI Express and MSI-X, which the function adds itself. */
  readonly capabilities: readonly Capability[];
  readonly interrupts: FunctionInterrupts;
  /** Where the MSI-X structures lie; needed when the function has vectors. */
  readonly msix?: { readonly table: Placement; readonly pba: Placement };
  /** The device behind the function is to be reset; everything in flight ends before it returns. */
  readonly onReset: (kind: ResetKind) => void;
  /** The guest has written the command register: hosts that place BARs themselves need it. */
  readonly onCommand?: (command: CommandState) => void;
  readonly logger?: Logger;
}

/** What a host announces. */
export interface PciFunctionDescription {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly classCode: number;
  readonly revisionId: number;
  /** Bytes of configuration space. */
  readonly configSize: number;
  readonly bars: readonly BarDefinition[];
  /** 0 without MSI-X. */
  readonly msixVectors: number;
}

/**
 * A PCI Express endpoint: configuration space, BARs, interrupts, resets. All accesses may have any
 * width and alignment and never throw; what means nothing reads as zero and writes nothing.
 *
 * BAR accesses are served whether or not the guest has set Memory Space Enable: a vfio-user client
 * decodes addresses itself, and needs the BARs in between, for example when it saves a device that
 * the guest has switched off. A host that decodes addresses uses `command` and `barAddress`.
 * Likewise the bus master bit gates nothing here: the client's DMA mappings are what the device can
 * reach, and drivers without an IOMMU (firmware above all) forget the bit without harm elsewhere.
 */
export class PciFunction implements BarAccess {
  readonly bars: readonly Bar[];
  readonly interrupts: FunctionInterrupts;
  readonly #options: PciFunctionOptions;
  readonly #config: ConfigSpace;
  readonly #spaces: readonly BarSpace[];
  readonly #log: Logger;
  #flrRequested = false;

  /** @throws VvuError of scope `setup` when bars, regions or capabilities do not fit */
  constructor(options: PciFunctionOptions) {
    this.#options = options;
    this.#log = options.logger ?? silentLogger;
    this.interrupts = options.interrupts;
    this.bars = options.bars.map((bar) => ({
      ...bar,
      regions: [...bar.regions, ...msixRegions(options, bar.index)],
    }));
    checkBars(this.bars);
    this.#checkMsix();
    this.#spaces = this.bars.map((bar) => new BarSpace(bar, this.#log));
    this.#config = new ConfigSpace({
      ids: options.ids,
      bars: this.bars,
      capabilities: this.#capabilities(),
      interruptPending: () => this.interrupts.intx.pending,
      commandWritten: (command) => {
        this.interrupts.intx.setDisabled(command.intxDisabled);
        options.onCommand?.(command);
      },
    });
  }

  get command(): CommandState {
    return this.#config.command;
  }

  configRead(offset: number, target: Uint8Array): void {
    target.fill(0);
    const length = this.#configLength(offset, target.length);
    if (length > 0) this.#config.read(offset, target.subarray(0, length));
  }

  configWrite(offset: number, bytes: Uint8Array): void {
    const length = this.#configLength(offset, bytes.length);
    if (length > 0) this.#config.write(offset, bytes.subarray(0, length));
    // After the whole write: a reset in the middle would leave the rest of it in the fresh registers.
    if (!this.#flrRequested) return;
    this.#flrRequested = false;
    this.reset('flr');
  }

  /** `offset` counts bytes from the start of the BAR and may exceed 2^32. */
  barRead(bar: number, offset: number, target: Uint8Array): void {
    const space = this.#space(bar);
    if (space) space.read(offset, target);
    else target.fill(0);
  }

  barWrite(bar: number, offset: number, bytes: Uint8Array): void {
    this.#space(bar)?.write(offset, bytes);
  }

  barSize(bar: number): number {
    return this.#space(bar)?.bar.size ?? 0;
  }

  /** Where the guest has placed a BAR; undefined while it is not decoded, or if there is none. */
  barAddress(bar: number): bigint | undefined {
    const space = this.#space(bar);
    return space && this.command.memory ? this.#config.barAddress(space.bar) : undefined;
  }

  /**
   * Resets the function: registers, BARs, MSI-X, interrupts, and the device behind it. Work in
   * flight is cancelled before this returns. The BARs' contents keep their places.
   */
  reset(kind: ResetKind): void {
    this.#log.debug({ kind }, 'function reset');
    // The device first: it takes its bindings back before the vectors change under them.
    try {
      this.#options.onReset(kind);
    } catch (error) {
      this.#log.error({ code: errorCode(error), error: errorMessage(error) }, 'reset failed');
    }
    this.interrupts.reset();
    this.#config.reset();
    this.#options.onCommand?.(this.command);
  }

  describe(): PciFunctionDescription {
    const { vendorId, deviceId, ...rest } = this.#options.ids;
    return {
      vendorId,
      deviceId,
      subsystemVendorId: rest.subsystemVendorId ?? vendorId,
      subsystemId: rest.subsystemId ?? deviceId,
      classCode: rest.classCode ?? 0xff0000,
      revisionId: rest.revisionId ?? 1,
      configSize: PCI_CFG_SPACE_EXP_SIZE,
      bars: this.bars.map(({ index, size, kind, prefetchable }) => ({
        index,
        size,
        kind,
        prefetchable,
      })),
      msixVectors: this.interrupts.vectorCount,
    };
  }

  #checkMsix(): void {
    const { msix } = this.#options;
    const ok = this.interrupts.msix
      ? msix && [msix.table, msix.pba].every(({ bar }) => this.bars.some((b) => b.index === bar))
      : !msix;
    if (!ok) throw new VvuError('BAD_LAYOUT', 'setup', 'MSI-X needs vectors, and places in BARs');
  }

  #capabilities(): Capability[] {
    const { msix, capabilities } = this.#options;
    const rest = [...capabilities];
    if (this.interrupts.msix && msix) {
      rest.unshift(msixCapability(this.interrupts.msix, msix.table, msix.pba));
    }
    const room = PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF - PCI_CAP_EXP_ENDPOINT_SIZEOF_V2;
    const taken = rest.reduce((sum, { length }) => sum + length, 0);
    return [
      pciExpressCapability(taken <= room ? 2 : 1, () => (this.#flrRequested = true)),
      ...rest,
    ];
  }

  #space(bar: number): BarSpace | undefined {
    return this.#spaces.find((space) => space.bar.index === bar);
  }

  /** How much of [offset, offset + length) is configuration space. */
  #configLength(offset: number, length: number): number {
    if (!Number.isInteger(offset) || offset < 0) return 0;
    return Math.min(length, PCI_CFG_SPACE_EXP_SIZE - offset);
  }
}

function msixRegions(options: PciFunctionOptions, bar: number): Bar['regions'] {
  const table = options.interrupts.msix;
  const placed = options.msix;
  if (!table || !placed) return [];
  return [
    { at: placed.table, block: table.table },
    { at: placed.pba, block: table.pba },
  ]
    .filter(({ at }) => at.bar === bar)
    .map(({ at, block }) => ({ offset: at.offset, length: block.size, block }));
}
