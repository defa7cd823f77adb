import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  type DmaMapping,
  type FakeFds,
  type RegionIoFd,
  type VfioUserConnection,
  type VfioUserDevice,
  type VfioUserIrqInfo,
  type VfioUserRegion,
} from '../src/index.js';

const ABSENT: VfioUserRegion = { size: 0, readable: false, writable: false };

/**
 * A PCI device for tests: BAR 0 of 4 KiB registers, BAR 2 of 8 KiB whose second page shows the start
 * of a file, BAR 3 of 64 KiB that is not mappable, BAR 4 of 64 KiB that is wholly mappable, and config space of 4 KiB.
 */
export class TestDevice implements VfioUserDevice {
  readonly regions: readonly VfioUserRegion[];
  readonly irqs: readonly VfioUserIrqInfo[] = [
    {
      count: 1,
      flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
    },
    { count: 0, flags: 0 },
    { count: 4, flags: VFIO_IRQ_INFO_EVENTFD },
    { count: 1, flags: VFIO_IRQ_INFO_EVENTFD },
    { count: 1, flags: 0 },
  ];
  /** One line per call that changes something. */
  readonly calls: string[] = [];
  readonly memory: readonly Uint8Array[];
  readonly ioFds: RegionIoFd[] = [];
  readonly dmaFds = new Map<number, number>();
  connection: VfioUserConnection | undefined;
  /** Thrown by the next call that is not a notification. */
  failure: Error | undefined;
  /** Called at the start of each region read. */
  onRead: (() => void) | undefined;
  private readonly files: readonly number[];

  constructor(private readonly fds: FakeFds) {
    this.files = [fds.open('bar2'), fds.open('bar4')];
    const [bar2 = -1, bar4 = -1] = this.files;
    const rw = { readable: true, writable: true };
    const areas = [{ offset: 0x1000, size: 0x1000 }];
    this.regions = [
      { size: 0x1000, ...rw },
      ABSENT,
      { size: 0x2000, ...rw, mmap: { fd: bar2, fileOffset: -0x1000, areas } },
      { size: 0x10000, ...rw },
      { size: 0x10000, ...rw, mmap: { fd: bar4, fileOffset: 0 } },
      ABSENT,
      { size: 0x800, readable: true, writable: false },
      { size: 0x1000, ...rw },
      ABSENT,
    ];
    this.memory = this.regions.map(({ size }) => new Uint8Array(size));
    this.memory[7]?.set([0xf4, 0x1a, 0x58, 0x10]);
  }

  regionRead(index: number, offset: number, target: Uint8Array): void {
    this.onRead?.();
    this.throwIfAsked();
    const source = this.memory[index]?.subarray(offset, offset + target.length);
    if (source !== undefined) target.set(source);
  }

  regionWrite(index: number, offset: number, data: Uint8Array): void {
    this.throwIfAsked();
    this.calls.push(`write ${index} ${offset} ${Buffer.from(data).toString('hex')}`);
    this.memory[index]?.set(data, offset);
  }

  regionIoFds(index: number): readonly RegionIoFd[] {
    return index === 0 ? this.ioFds : [];
  }

  dmaMap({ address, size, fd, fileOffset, readable, writable }: DmaMapping): void {
    if (fd !== undefined) this.dmaFds.set(address, fd);
    const file = fd === undefined ? '-' : `${this.fds.label(fd) ?? '?'}@${fileOffset}`;
    this.calls.push(
      `map ${address.toString(16)} ${size.toString(16)} ${file} ${readable ? 'r' : ''}${writable ? 'w' : ''}`,
    );
    try {
      this.throwIfAsked();
    } catch (error) {
      this.closeDma(address);
      throw error;
    }
  }

  dmaUnmap(address: number, size: number): void {
    this.calls.push(`unmap ${address.toString(16)} ${size.toString(16)}`);
    this.closeDma(address);
    this.throwIfAsked();
  }

  dmaUnmapAll(): void {
    this.calls.push('unmap all');
    for (const address of [...this.dmaFds.keys()]) this.closeDma(address);
  }

  reset(): void {
    this.calls.push('reset');
    this.throwIfAsked();
  }

  irqChanged(index: number, start: number, count: number): void {
    this.calls.push(`irq ${index} ${start} ${count}`);
  }

  connected(connection: VfioUserConnection): void {
    this.connection = connection;
    this.calls.push('connected');
  }

  closed(_connection: VfioUserConnection, reason: string): void {
    this.calls.push(`closed ${reason}`);
  }

  /** Closes the device's own files, so that an fd count of 0 means that nothing leaked. */
  dispose(): void {
    for (const fd of this.files) this.fds.close(fd);
    for (const fd of new Set(this.ioFds.map((entry) => entry.fd))) this.fds.close(fd);
  }

  private closeDma(address: number): void {
    const fd = this.dmaFds.get(address);
    if (fd !== undefined) this.fds.close(fd);
    this.dmaFds.delete(address);
  }

  private throwIfAsked(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }
}
