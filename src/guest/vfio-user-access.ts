/** Reaches a device through its vfio-user socket: for tests, and to run a driver on the host. */
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_WRITE,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD,
  VfioUserClient,
  VfioUserError,
  type RegionInfo,
  type RegionRemapRequest,
} from 'vfio-ts-bindings';
import { VvuError, errorMessage } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import { NativeTransport } from '../native-transport.js';
import { native as realNative, type Native, type NativeMemory } from '../native.js';
import { MappedMemory } from '../virtio/mapped-memory.js';
import { listCapabilities } from './capabilities.js';
import { PCI_CAP_ID_MSIX, PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE } from './constants.js';
import { DmaPool } from './dma-pool.js';
import type { Binding, DmaBuffer, InterruptHandle, PciAccess, WindowAccess } from './pci-access.js';
import { RegionAreas } from './region-areas.js';
import { WindowMemory } from './window-memory.js';

const BARS = 6;
/** Bytes of the longest register access. */
const MAX_STORE = 8;

/** IOVA of the pool: anything but 0 would do, and 1 MiB is easy to recognise in a log. */
const POOL_IOVA = 0x10_0000;
const DEFAULT_POOL_BYTES = 2 * 1024 * 1024;

export interface VfioUserAccessOptions {
  readonly native?: Native;
  readonly logger?: Logger;
  /** Memory for the driver's own queues, in bytes, whole pages. Default 2 MiB. */
  readonly dmaBytes?: number;
  /** Longest wait for one register access in milliseconds. Default 5,000. */
  readonly requestTimeoutMs?: number;
  /** Offer `region_remap`, so that the window can be mapped at run time. Default true. */
  readonly regionRemap?: boolean;
  /** The device is gone; every further access throws. */
  readonly onClosed?: (reason: string, detail: string) => void;
}

interface Bar {
  readonly size: number;
  readonly areas: RegionAreas;
  /** Doorbells that are eventfds, by offset. */
  readonly doorbells: Map<number, IoEventFd>;
}

interface IoEventFd {
  /** Owned by the access object; several may share one. */
  readonly fd: number;
  /** Longest access in bytes that is one. */
  readonly size: number;
}

interface Pool {
  readonly native: NativeMemory;
  readonly allocator: DmaPool;
}

export class VfioUserPciAccess implements PciAccess {
  private readonly native: Native;
  private readonly log: Logger;
  private readonly client: VfioUserClient;
  private readonly bars: Bar[] = [];
  private readonly vectors = new Map<number, number>();
  private readonly ioFds: number[] = [];
  private vectorTotal = 0;
  private transferSize = 4096;
  private pool: Pool | undefined;
  private msixControl: number | undefined;
  private closed = false;

  private constructor(path: string, options: VfioUserAccessOptions) {
    this.native = options.native ?? realNative;
    this.log = options.logger ?? silentLogger;
    const transport = new NativeTransport(this.native, this.native.connect(path));
    this.client = new VfioUserClient(transport, {
      requestTimeoutMs: options.requestTimeoutMs ?? 5000,
      ...(options.regionRemap !== false && { regionRemap: (request) => this.remap(request) }),
      onClosed: (reason, detail) => {
        this.log.info({ reason, detail }, 'device connection closed');
        if (!this.closed) options.onClosed?.(reason, detail);
      },
    });
  }

  /**
   * Connects, maps the window's mappable areas and the DMA pool.
   * @throws the connection's or the device's error; nothing stays open then
   */
  static async connect(
    path: string,
    options: VfioUserAccessOptions = {},
  ): Promise<VfioUserPciAccess> {
    const access = new VfioUserPciAccess(path, options);
    try {
      await access.open(options.dmaBytes ?? DEFAULT_POOL_BYTES);
    } catch (error) {
      access.close();
      throw error;
    }
    return access;
  }

  get vectorCount(): number {
    return this.vectorTotal;
  }

  configRead(offset: number, length: number): Buffer {
    return this.read(VFIO_PCI_CONFIG_REGION_INDEX, offset, length);
  }

  configWrite(offset: number, bytes: Uint8Array): void {
    this.client.regionWriteSync(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes);
  }

  barRead(bar: number, offset: number, length: number): Buffer {
    return this.read(bar, offset, length);
  }

  /** A store to a doorbell that has an ioeventfd signals it, without a message. */
  barWrite(bar: number, offset: number, bytes: Uint8Array): void {
    const doorbell = this.bars[bar]?.doorbells.get(offset);
    if (doorbell !== undefined && bytes.length <= doorbell.size) {
      this.native.signalEventFd(doorbell.fd);
    } else {
      this.client.regionWriteSync(bar, offset, bytes);
    }
  }

  storeOnSignal(eventfd: number, bar: number, offset: number, bytes: Uint8Array): Binding {
    const doorbell = this.bars[bar]?.doorbells.get(offset);
    if (doorbell !== undefined && bytes.length <= doorbell.size) {
      return this.native.relayEventFd(eventfd, doorbell.fd);
    }
    // The device has eventfds for its first doorbells alone; the others are messages of this thread.
    return this.native.watchEventFd(eventfd, () => {
      try {
        this.client.regionWriteSync(bar, offset, bytes);
      } catch (error) {
        this.log.debug({ bar, offset, error: errorMessage(error) }, 'store failed');
      }
    });
  }

  barSize(bar: number): number {
    return this.bars[bar]?.size ?? 0;
  }

  allocateDma(size: number): DmaBuffer {
    if (this.pool === undefined) throw new VvuError('CLOSED', 'bug', 'the access is closed');
    return this.pool.allocator.allocate(size);
  }

  openWindow(bar: number, offset: number, length: number): WindowAccess {
    const found = this.bars[bar];
    if (found === undefined || offset + length > found.size) {
      throw new VvuError('WINDOW_RANGE', 'setup', `BAR ${bar} has no ${offset} + ${length}`);
    }
    const trapped = {
      read: (at: number, count: number) => this.readLong(bar, at, count),
      write: (at: number, bytes: Uint8Array) => this.writeLong(bar, at, bytes),
    };
    const fence = (): void => this.native.fence();
    const remaps = this.client.serverFeatures.regionRemap;
    return new WindowMemory(found.areas, trapped, offset, length, fence, remaps);
  }

  enableVector(vector: number): InterruptHandle {
    if (!(vector >= 0 && vector < this.vectorTotal)) {
      throw new VvuError('NO_VECTOR', 'bug', `MSI-X vector ${vector} of ${this.vectorTotal}`);
    }
    let eventfd = this.vectors.get(vector);
    if (eventfd === undefined) {
      if (this.vectors.size === 0) this.setMsixEnable(true);
      eventfd = this.native.createEventFd();
      this.vectors.set(vector, eventfd);
      // Not awaited: the device handles commands in order, so every later access comes after it.
      this.inOrder(
        'SET_IRQS',
        this.client.setIrqEventFds(VFIO_PCI_MSIX_IRQ_INDEX, vector, [eventfd]),
      );
    }
    return { eventfd };
  }

  disableVectors(): void {
    if (this.vectors.size === 0) return;
    this.inOrder('SET_IRQS', this.client.disableIrqs(VFIO_PCI_MSIX_IRQ_INDEX));
    this.setMsixEnable(false);
    this.closeVectors();
  }

  reset(): void {
    this.inOrder('DEVICE_RESET', this.client.reset());
  }

  /** Leaves the device, which the server then resets or keeps as it likes. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.client.close();
    this.closeVectors();
    for (const fd of this.ioFds.splice(0)) this.native.closeFd(fd);
    for (const { areas } of this.bars) areas.clear();
    this.pool?.native.release();
    this.pool = undefined;
  }

  private async open(poolBytes: number): Promise<void> {
    const features = await this.client.connect();
    this.transferSize = features.maxDataXferSize;
    for (let index = 0; index < BARS; index++) {
      const bar = this.mapBar(await this.client.regionInfo(index));
      this.bars.push(bar);
      if (bar.size > 0) await this.bindDoorbells(index, bar.doorbells);
    }
    this.vectorTotal = (await this.client.irqInfo(VFIO_PCI_MSIX_IRQ_INDEX)).count;
    await this.createPool(poolBytes);
    this.msixControl = listCapabilities(this).find(({ id }) => id === PCI_CAP_ID_MSIX)?.at;
  }

  private mapBar(info: RegionInfo): Bar {
    const { size, offset, flags, fd } = info;
    const areas = new RegionAreas(this.native, size);
    const bar = { size, areas, doorbells: new Map<number, IoEventFd>() };
    if (fd === undefined) return bar;
    try {
      if ((flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0) {
        const mappable = info.areas ?? [{ offset: 0, size }];
        const writable = (flags & VFIO_REGION_INFO_FLAG_WRITE) !== 0;
        areas.apply(
          mappable.map((area) => ({
            kind: 'map',
            offset: area.offset,
            length: area.size,
            fd,
            fileOffset: offset + area.offset,
            readable: true,
            writable,
          })),
        );
      }
    } finally {
      this.native.closeFd(fd);
    }
    return bar;
  }

  /** Takes the doorbells that the device offers as eventfds; the others remain messages. */
  private async bindDoorbells(bar: number, doorbells: Map<number, IoEventFd>): Promise<void> {
    try {
      const { entries, fds } = await this.client.regionIoFds(bar);
      this.ioFds.push(...fds);
      for (const { offset, size, fdIndex, type, flags } of entries) {
        const fd = fds[fdIndex];
        const plain = (flags & KVM_IOEVENTFD_FLAG_DATAMATCH) === 0;
        if (fd === undefined || type !== VFIO_USER_IO_FD_TYPE_IOEVENTFD || !plain) continue;
        this.native.checkEventFd(fd);
        doorbells.set(offset, { fd, size: size === 0 ? MAX_STORE : size });
      }
    } catch (error) {
      // A device need not know the command.
      if (!(error instanceof VfioUserError && error.remote)) throw error;
    }
  }

  private async createPool(bytes: number): Promise<void> {
    const fd = this.native.createMemfd('vvu-driver', bytes);
    try {
      const memory = this.native.map(fd, { offset: 0, length: bytes, writable: true });
      const mapped = new MappedMemory(this.native);
      mapped.insert(POOL_IOVA, bytes, { memory, offset: 0, readable: true, writable: true });
      this.pool = { native: memory, allocator: new DmaPool(mapped, POOL_IOVA, bytes) };
      await this.client.dmaMap({
        address: POOL_IOVA,
        size: bytes,
        fd,
        fileOffset: 0,
        readable: true,
        writable: true,
      });
    } finally {
      this.native.closeFd(fd);
    }
  }

  private remap(request: RegionRemapRequest): void {
    const bar = this.bars[request.region];
    if (bar === undefined) {
      throw new VvuError('REMAP_REGION', 'request', `remap of region ${request.region}`);
    }
    bar.areas.apply(request.ops);
    this.log.debug({ region: request.region, mapped: bar.areas.count }, 'window remapped');
  }

  private setMsixEnable(enabled: boolean): void {
    if (this.msixControl === undefined) return;
    const at = this.msixControl + PCI_MSIX_FLAGS;
    const flags = this.configRead(at, 2);
    const value = flags.readUInt16LE();
    flags.writeUInt16LE(enabled ? value | PCI_MSIX_FLAGS_ENABLE : value & ~PCI_MSIX_FLAGS_ENABLE);
    this.configWrite(at, flags);
  }

  private closeVectors(): void {
    for (const fd of this.vectors.values()) this.native.closeFd(fd);
    this.vectors.clear();
  }

  private inOrder(what: string, done: Promise<unknown>): void {
    done.catch((error: unknown) => {
      if (!this.closed) this.log.warn({ what, error: errorMessage(error) }, 'request refused');
    });
  }

  private read(region: number, offset: number, length: number): Buffer {
    const bytes = this.client.regionReadSync(region, offset, length);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  private readLong(region: number, offset: number, length: number): Uint8Array {
    if (length <= this.transferSize) return this.read(region, offset, length);
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length;) {
      const count = Math.min(this.transferSize, length - done);
      bytes.set(this.read(region, offset + done, count), done);
      done += count;
    }
    return bytes;
  }

  private writeLong(region: number, offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + this.transferSize);
      this.client.regionWriteSync(region, offset + done, part);
      done += part.length;
    }
  }
}
