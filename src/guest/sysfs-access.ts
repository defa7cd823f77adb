/** Reaches a function through sysfs, without an IOMMU: for guests that have none. */
import { closeSync, constants, existsSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VvuError, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import { native as realNative, type Native } from '../native.js';
import { ConfigFile } from './config-file.js';
import { PCI_COMMAND, PCI_COMMAND_MASTER } from './constants.js';
import type { Binding, DmaBuffer, InterruptHandle, PciAccess, WindowAccess } from './pci-access.js';
import { createPhysicalPool, type PhysicalPool } from './physical-pool.js';
import { SysfsBars, type WindowCaching } from './sysfs-bars.js';
import type { PciResource, SysfsFunction } from './sysfs-function.js';
import { UioInterrupt } from './uio-interrupt.js';

const DEFAULT_POOL_BYTES = 2 * 1024 * 1024;

export interface SysfsAccessOptions {
  readonly native?: Native;
  readonly logger?: Logger;
  /** Memory for the driver's own queues, in bytes. Default 2 MiB. */
  readonly dmaBytes?: number;
  readonly windowCaching?: WindowCaching;
  /** Take INTx from uio_pci_generic. Default false: see docs/guest.md for what it costs. */
  readonly intx?: boolean;
}

/**
 * For a function that is bound to uio_pci_generic, or to nothing. The device reads and writes
 * physical memory unchecked, so this is for root alone; there are no MSI-X vectors: the driver
 * polls, unless it was told to use INTx. While uio_pci_generic holds the function, its file stays open: when this process dies, the
 * kernel then ends the function's bus mastering before the memory goes to somebody else.
 */
export class SysfsPciAccess implements PciAccess {
  readonly vectorCount = 0;
  /** Present if it was asked for. */
  readonly intx: UioInterrupt | undefined;
  private readonly native: Native;
  private readonly log: Logger;
  private readonly resources: readonly PciResource[];
  private readonly sysfs: SysfsBars;
  private readonly configFd: number;
  private readonly config: ConfigFile;
  private readonly poolBytes: number;
  private uioFd: number | undefined;
  private enabled = false;
  private pool: PhysicalPool | undefined;
  private closed = false;

  /** @throws VvuError of scope `setup`; nothing stays open then */
  constructor(
    private readonly device: SysfsFunction,
    options: SysfsAccessOptions = {},
  ) {
    this.native = options.native ?? realNative;
    this.log = options.logger ?? silentLogger;
    this.poolBytes = options.dmaBytes ?? DEFAULT_POOL_BYTES;
    if (process.geteuid?.() !== 0) {
      throw new VvuError('NEEDS_ROOT', 'setup', `only root can drive ${device.address} by sysfs`);
    }
    const { address, driver } = device;
    if (driver !== undefined && driver !== 'uio_pci_generic') {
      throw new VvuError('DRIVER_BOUND', 'setup', `${address} is held by the driver ${driver}`);
    }
    this.resources = device.resources;
    this.sysfs = new SysfsBars(this.native, device, this.log, options.windowCaching);
    this.configFd = openSync(join(device.path, 'config'), constants.O_RDWR);
    this.config = new ConfigFile(this.configFd);
    try {
      this.enable();
      this.intx = options.intx === true ? this.openIntx() : undefined;
    } catch (error) {
      this.close();
      throw error;
    }
    this.log.info({ device: address, driver: driver ?? 'none' }, 'opened through sysfs');
  }

  configRead(offset: number, length: number): Buffer {
    return this.config.read(offset, length);
  }

  configWrite(offset: number, bytes: Uint8Array): void {
    this.config.write(offset, bytes);
  }

  barRead(bar: number, offset: number, length: number): Buffer {
    return this.sysfs.of(bar, this.existing(bar)).read(offset, length);
  }

  barWrite(bar: number, offset: number, bytes: Uint8Array): void {
    this.sysfs.of(bar, this.existing(bar)).write(offset, bytes);
  }

  barSize(bar: number): number {
    const resource = this.resources[bar];
    return resource?.memory === true ? resource.size : 0;
  }

  storeOnSignal(eventfd: number, bar: number, offset: number, bytes: Uint8Array): Binding {
    return this.sysfs.of(bar, this.existing(bar)).storeOnSignal(eventfd, offset, bytes);
  }

  /** @throws VvuError `IOMMU`, scope `setup`, where an IOMMU would stop the device's accesses */
  allocateDma(size: number): DmaBuffer {
    if (this.closed) throw new VvuError('CLOSED', 'bug', 'the access is closed');
    if (this.device.translated) {
      throw new VvuError(
        'IOMMU',
        'setup',
        `${this.device.address} is behind an IOMMU: use --bind vfio-pci`,
      );
    }
    if (this.pool === undefined) {
      this.pool = createPhysicalPool(this.native, this.poolBytes, Math.min(size, this.poolBytes));
      const { allocator, hugepages } = this.pool;
      this.log.info({ bytes: allocator.size, hugepages }, 'memory for DMA');
    }
    return this.pool.allocator.allocate(size);
  }

  openWindow(bar: number, offset: number, length: number): WindowAccess {
    return this.sysfs.openWindow(bar, offset, length);
  }

  enableVector(vector: number): InterruptHandle {
    throw new VvuError('NO_VECTOR', 'bug', `no MSI-X vector ${vector} without VFIO`);
  }

  disableVectors(): void {
    return;
  }

  reset(): void {
    try {
      writeFileSync(join(this.device.path, 'reset'), '1');
    } catch (error) {
      throw new VvuError('NO_RESET', 'setup', `${this.device.address}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }

  /** Ends bus mastering before the memory is freed. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.stopDma();
    this.intx?.close();
    this.sysfs.close();
    this.pool?.memory.release();
    this.pool = undefined;
    closeSync(this.configFd);
    if (this.uioFd !== undefined) closeSync(this.uioFd);
    if (this.enabled) this.writeQuietly('enable', '0');
  }

  /** Power and memory decoding, which the driver's probe would have switched on. */
  private enable(): void {
    const { uio, driver, paths } = this.device;
    if (driver === undefined) {
      writeFileSync(join(this.device.path, 'enable'), '1');
      this.enabled = true;
    } else if (uio !== undefined && existsSync(join(paths.dev, uio))) {
      this.uioFd = openSync(join(paths.dev, uio), constants.O_RDWR);
    }
  }

  private openIntx(): UioInterrupt {
    const { address } = this.device;
    if (this.uioFd === undefined) {
      const detail = `${address} has no INTx without uio_pci_generic: use --bind uio_pci_generic`;
      throw new VvuError('NO_INTX', 'setup', detail);
    }
    try {
      return new UioInterrupt(this.native, this.config, this.uioFd);
    } catch (error) {
      const detail = `INTx of ${address}: ${errorMessage(error)}`;
      throw new VvuError('NO_INTX', 'setup', detail, { cause: error });
    }
  }

  private stopDma(): void {
    try {
      const command = this.configRead(PCI_COMMAND, 2);
      command.writeUInt16LE(command.readUInt16LE() & ~PCI_COMMAND_MASTER);
      this.configWrite(PCI_COMMAND, command);
    } catch (error) {
      this.log.debug({ error: errorMessage(error) }, 'device is gone: nothing to stop');
    }
  }

  private writeQuietly(attribute: string, value: string): void {
    try {
      writeFileSync(join(this.device.path, attribute), value);
    } catch (error) {
      this.log.debug({ attribute, error: errorMessage(error) }, 'not written');
    }
  }

  private existing(bar: number): number {
    const size = this.barSize(bar);
    if (this.closed || size === 0) throw new VvuError('NO_BAR', 'bug', `there is no BAR ${bar}`);
    return size;
  }
}
