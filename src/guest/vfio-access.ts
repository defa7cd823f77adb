/** Reaches a function that is bound to vfio-pci, behind an IOMMU. */
import { VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP } from 'vfio-ts-bindings';
import { VvuError, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import {
  native as realNative,
  type Native,
  type NativeMemory,
  type VfioRegionInfo,
} from '../native.js';
import { MappedMemory } from '../virtio/mapped-memory.js';
import { BarRegisters, checkRegister } from './bar-registers.js';
import { findStructures } from './capabilities.js';
import { ConfigFile } from './config-file.js';
import { PCI_COMMAND, PCI_COMMAND_MEMORY } from './constants.js';
import { DmaPool } from './dma-pool.js';
import { mappedWindow } from './mapped-window.js';
import type { RegionAreas } from './region-areas.js';
import type { Binding, DmaBuffer, InterruptHandle, PciAccess, WindowAccess } from './pci-access.js';
import { SysfsBars, type WindowCaching } from './sysfs-bars.js';
import type { SysfsFunction } from './sysfs-function.js';
import { mapVfioWindow } from './vfio-window.js';
import { openVfioDevice, type VfioDevice } from './vfio-device.js';
import { VfioVectors } from './vfio-vectors.js';

/** IOVA of the pool: below the MSI window at 0xfee00000, and easy to recognise in a log. */
const POOL_IOVA = 0x10_0000;
const DEFAULT_POOL_BYTES = 2 * 1024 * 1024;
/** The window's BAR in the RFC's layout, which may have no capability for it. */
const RFC_WINDOW_BAR = 2;

export interface VfioAccessOptions {
  readonly native?: Native;
  readonly logger?: Logger;
  /** Memory for the driver's own queues, in bytes, whole pages. Default 2 MiB. */
  readonly dmaBytes?: number;
  readonly windowCaching?: WindowCaching;
}

/**
 * BARs of registers are mapped through VFIO. The window's BAR is not, where that can be avoided:
 * kernels with CONFIG_IO_STRICT_DEVMEM refuse a BAR's sysfs resource file to everybody once vfio-pci
 * has claimed the BAR, which older ones do on its first use. So all of that BAR is reached through
 * the resource file, also the doorbells that share it in the RFC's layout; other processes can then
 * map the window from the same file. Newer kernels claim all BARs when the device is opened: see
 * `mapVfioWindow`.
 */
export class VfioPciAccess implements PciAccess {
  private readonly native: Native;
  private readonly log: Logger;
  private readonly device: VfioDevice;
  private readonly config: ConfigFile;
  private readonly vectors: VfioVectors;
  private readonly sysfs: SysfsBars;
  private readonly regions: VfioRegionInfo[] = [];
  private readonly bars = new Map<number, BarRegisters>();
  private readonly windowBar: number;
  /** Whether the window's BAR is reached through sysfs. */
  private readonly windowBySysfs: boolean;
  private readonly windows: RegionAreas[] = [];
  private readonly poolBytes: number;
  private pool: { readonly memory: NativeMemory; readonly allocator: DmaPool } | undefined;
  private closed = false;

  /** @throws VvuError of scope `setup`; nothing stays open then */
  constructor(found: SysfsFunction, options: VfioAccessOptions = {}) {
    this.native = options.native ?? realNative;
    this.poolBytes = options.dmaBytes ?? DEFAULT_POOL_BYTES;
    this.log = options.logger ?? silentLogger;
    this.sysfs = new SysfsBars(this.native, found, this.log, options.windowCaching);
    this.device = openVfioDevice(this.native, found);
    try {
      for (let index = 0; index <= VFIO_PCI_CONFIG_REGION_INDEX; index++) {
        this.regions.push(this.region(index));
      }
      const config = this.regions[VFIO_PCI_CONFIG_REGION_INDEX];
      this.config = new ConfigFile(this.device.fd, config?.offset ?? 0);
      this.vectors = new VfioVectors(this.native, this.device.fd);
      this.enableMemory();
      this.windowBar = this.findWindowBar();
      this.windowBySysfs = this.sysfs.mappable(this.windowBar);
    } catch (error) {
      this.sysfs.close();
      this.device.close();
      throw error;
    }
    this.log.info(
      { device: found.address, interface: this.device.interface, vectors: this.vectors.count },
      'opened through VFIO',
    );
  }

  get vectorCount(): number {
    return this.vectors.count;
  }

  configRead(offset: number, length: number): Buffer {
    return this.config.read(offset, length);
  }

  /** MSI-X is switched on by its vectors: the kernel ignores the capability's enable bit. */
  configWrite(offset: number, bytes: Uint8Array): void {
    this.config.write(offset, bytes);
  }

  barRead(bar: number, offset: number, length: number): Buffer {
    const registers = this.registers(bar);
    if (registers instanceof BarRegisters) return registers.read(offset, length);
    checkRegister(offset, length);
    return registers.read(offset, length);
  }

  barWrite(bar: number, offset: number, bytes: Uint8Array): void {
    const registers = this.registers(bar);
    checkRegister(offset, bytes.length);
    registers.write(offset, bytes);
  }

  barSize(bar: number): number {
    return this.regions[bar]?.size ?? 0;
  }

  storeOnSignal(eventfd: number, bar: number, offset: number, bytes: Uint8Array): Binding {
    const registers = this.registers(bar);
    if (registers instanceof BarRegisters) {
      return registers.storeOnSignal(eventfd, offset, bytes);
    }
    // A BAR that cannot be mapped: rare, and slow as all of it is.
    const value = Buffer.from(bytes);
    return this.native.watchEventFd(eventfd, () => {
      try {
        registers.write(offset, value);
      } catch {
        // The device is gone: whoever polls it is told.
      }
    });
  }

  allocateDma(size: number): DmaBuffer {
    if (this.closed) throw new VvuError('CLOSED', 'bug', 'the access is closed');
    this.pool ??= this.createPool();
    return this.pool.allocator.allocate(size);
  }

  openWindow(bar: number, offset: number, length: number): WindowAccess {
    if (bar !== this.windowBar) {
      throw new VvuError('WINDOW_RANGE', 'setup', `the window is not in BAR ${bar}`);
    }
    if (this.windowBySysfs) return this.sysfs.openWindow(bar, offset, length);
    const region = this.regions[bar];
    if (region === undefined || !(length > 0) || offset + length > region.size) {
      throw new VvuError('WINDOW_RANGE', 'setup', `BAR ${bar} has no ${offset} + ${length}`);
    }
    const place = { device: this.device.fd, bar, region, offset, length };
    const areas = mapVfioWindow(this.native, place, this.log);
    this.windows.push(areas);
    return mappedWindow(this.native, areas, offset, length);
  }

  enableVector(vector: number): InterruptHandle {
    return { eventfd: this.vectors.enable(vector) };
  }

  disableVectors(): void {
    this.vectors.disable();
  }

  /** Function-level reset; the kernel restores configuration space and interrupts. */
  reset(): void {
    this.native.vfioReset(this.device.fd);
  }

  /** The kernel resets the function when its last user leaves. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const registers of this.bars.values()) registers.close();
    for (const areas of this.windows.splice(0)) areas.clear();
    this.sysfs.close();
    this.vectors.close();
    // Before the memory goes: with the device's file, its mappings in the IOMMU go too.
    this.device.close();
    this.pool?.memory.release();
    this.pool = undefined;
  }

  private region(index: number): VfioRegionInfo {
    return this.native.vfioRegionInfo(this.device.fd, index);
  }

  private enableMemory(): void {
    const command = this.configRead(PCI_COMMAND, 2);
    command.writeUInt16LE(command.readUInt16LE() | PCI_COMMAND_MEMORY);
    this.configWrite(PCI_COMMAND, command);
  }

  private findWindowBar(): number {
    try {
      return findStructures(this).window?.bar ?? RFC_WINDOW_BAR;
    } catch (error) {
      throw new VvuError(
        'NOT_VHOST_USER',
        'setup',
        `not a virtio-vhost-user device: ${errorMessage(error)}`,
        { cause: error },
      );
    }
  }

  /** Mapped registers, or system calls on a BAR that cannot be mapped. */
  private registers(bar: number): BarRegisters | ConfigFile {
    const info = this.regions[bar];
    if (
      this.closed ||
      info === undefined ||
      info.size === 0 ||
      bar >= VFIO_PCI_CONFIG_REGION_INDEX
    ) {
      throw new VvuError('NO_BAR', 'bug', `there is no BAR ${bar}`);
    }
    if (bar === this.windowBar && this.windowBySysfs) return this.sysfs.of(bar, info.size);
    if ((info.flags & VFIO_REGION_INFO_FLAG_MMAP) === 0) {
      return new ConfigFile(this.device.fd, info.offset);
    }
    let registers = this.bars.get(bar);
    if (registers === undefined) {
      const file = { fd: this.device.fd, offset: info.offset };
      const memory = this.native.mapDevice(file.fd, file.offset, info.size);
      registers = new BarRegisters(this.native, memory, file);
      this.bars.set(bar, registers);
    }
    return registers;
  }

  private createPool(): { readonly memory: NativeMemory; readonly allocator: DmaPool } {
    const { native, poolBytes: size } = this;
    const fd = native.createMemfd('vvu-driver', size);
    let memory: NativeMemory | undefined;
    try {
      memory = native.map(fd, { offset: 0, length: size, writable: true });
      this.device.mapDma(memory, POOL_IOVA);
    } catch (error) {
      memory?.release();
      throw new VvuError('DMA_MAP', 'setup', `cannot map memory for DMA: ${errorMessage(error)}`, {
        cause: error,
      });
    } finally {
      native.closeFd(fd);
    }
    const mapped = new MappedMemory(native);
    mapped.insert(POOL_IOVA, size, { memory, offset: 0, readable: true, writable: true });
    return { memory, allocator: new DmaPool(mapped, POOL_IOVA, size) };
  }
}
