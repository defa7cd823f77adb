import type { Vm } from './qemu.js';

/** How a buffer is mapped: chunk i, of `chunk` bytes, at the first IOVA + i * `stride`. */
export interface DmaChunks {
  readonly chunk?: number;
  readonly count?: number;
  readonly stride?: number;
}

/** Guest memory that devices reach, and that the host writes rings and buffers into. */
export class GuestBuffer {
  private constructor(
    readonly vm: Vm,
    readonly number: number,
    /** Where the device finds the first byte: an IOVA, or a physical address. */
    readonly address: bigint,
  ) {}

  /** 2 MiB of physically contiguous memory, for guests without an IOMMU. */
  static async huge(vm: Vm): Promise<GuestBuffer> {
    const [answer = ''] = await vm.run('dma-alloc');
    const [number = '', address = ''] = answer.split(' ');
    return new GuestBuffer(vm, Number(number), BigInt(address));
  }

  /** Chunks that are each a DMA mapping of their own, of the device that is open in VFIO. */
  static async mapped(
    vm: Vm,
    iova: bigint,
    { chunk = 4096, count = 1, stride = 4096 }: DmaChunks = {},
  ): Promise<GuestBuffer> {
    const command = `dma-map ${iova} ${chunk} ${count} ${stride}`;
    const [number = ''] = await vm.run(command, 60_000);
    return new GuestBuffer(vm, Number(number), iova);
  }

  /** The same memory in the VM that this one was migrated to. */
  on(vm: Vm): GuestBuffer {
    return new GuestBuffer(vm, this.number, this.address);
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const [hex = ''] = await this.vm.run(`mem-read ${this.number} ${offset} ${length}`);
    return Buffer.from(hex, 'hex');
  }

  /** At most 4096 bytes at a time. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const hex = Buffer.from(bytes).toString('hex');
    await this.vm.run(`mem-write ${this.number} ${offset} ${hex}`);
  }

  /** Waits until the value at `offset` is another one than `value`; resolves with what it is. */
  async change(offset: number, width: number, value: number, timeout: number): Promise<number> {
    const command = `mem-wait ${this.number} ${offset} ${width} ${value} ${timeout}`;
    const [answer = ''] = await this.vm.run(command, timeout + 10_000);
    return Number(answer);
  }

  /** Unmaps and frees it. */
  async free(): Promise<void> {
    await this.vm.run(`mem-free ${this.number}`, 60_000);
  }
}
