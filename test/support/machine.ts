import { native, type NativeMemory } from '../../src/native.js';
import { RegionAreas } from '../../src/guest/region-areas.js';
import type {
  DoorbellPort,
  InterruptPort,
  MemoryPort,
  MsixMessage,
  VirtioVhostUserFunction,
  VirtioVhostUserOptions,
  WindowPort,
} from '../../src/hosts/in-process/index.js';
import { createVirtioVhostUserDevice } from '../../src/hosts/in-process/index.js';

export const RAM = 0x10_0000;
export const RAM_BYTES = 4 << 20;
export const WINDOW_BYTES = 64 << 20;
/** Where the machine's interrupt controller takes messages; the data is a line of it. */
export const MSI_ADDRESS = 0xfee0_0000;

/** Which of its ports a machine offers, and in which form. */
export interface MachineKinds {
  readonly memory: 'segments' | 'accessor';
  readonly window: 'mapped' | 'trapped';
  /** Default `message`. */
  readonly interrupts?: 'message' | 'eventfd';
  /** Default `trapped`. */
  readonly doorbells?: 'ioeventfd' | 'trapped';
}

type OwnOptions = Partial<Omit<VirtioVhostUserOptions, 'memory'>>;

/** A "hypervisor" in this process without a guest: RAM, an interrupt controller, a PCI slot. */
export class Machine {
  readonly ram: NativeMemory;
  readonly device: VirtioVhostUserFunction;
  /** What is mapped of the window, by offset in its BAR. */
  readonly areas = new RegionAreas(native, 2 * WINDOW_BYTES);
  /** Eventfds of the interrupt controller, by line. */
  readonly lines = new Map<number, number>();
  /** Messages that came as such, and levels of INTA. */
  readonly messages: (MsixMessage & { readonly vector: number })[] = [];
  readonly levels: boolean[] = [];
  /** Doorbells that the machine signals by itself, as "bar:offset". */
  readonly doorbells = new Map<string, number>();
  readonly errors: Error[] = [];

  constructor(vhostUserPath: string, kinds: MachineKinds, options: OwnOptions = {}) {
    const fd = native.createMemfd('ram', RAM_BYTES);
    this.ram = native.map(fd, { offset: 0, length: RAM_BYTES, writable: true });
    this.device = createVirtioVhostUserDevice({
      memory:
        kinds.memory === 'segments'
          ? { segments: [{ address: RAM, length: RAM_BYTES, fd, fileOffset: 0 }] }
          : this.#accessor(),
      window: { size: WINDOW_BYTES, ...(kinds.window === 'mapped' && this.#window()) },
      interrupts: this.#interrupts(kinds.interrupts ?? 'message'),
      ...(kinds.doorbells === 'ioeventfd' && { doorbells: this.#doorbellPort() }),
      vhostUserPath,
      ...options,
    });
    native.closeFd(fd);
    this.device.on('error', (error) => this.errors.push(error));
  }

  async close(): Promise<void> {
    await this.device.close();
    this.areas.clear();
    for (const fd of this.lines.values()) native.closeFd(fd);
    this.lines.clear();
    this.ram.release();
  }

  #accessor(): MemoryPort {
    const inside = (address: number, length: number): boolean =>
      address >= RAM && address + length <= RAM + RAM_BYTES;
    return {
      read: (address, target) => {
        if (!inside(address, target.length)) return false;
        this.ram.readInto(address - RAM, target);
        return true;
      },
      write: (address, bytes) => {
        if (!inside(address, bytes.length)) return false;
        this.ram.write(address - RAM, bytes);
        return true;
      },
    };
  }

  #window(): Pick<WindowPort, 'map' | 'unmap'> {
    const access = { readable: true, writable: true };
    const inBar = (offset: number): number => this.device.window.offset + offset;
    return {
      map: (fd, fileOffset, at, length) =>
        this.areas.apply([{ kind: 'map', offset: inBar(at), length, fd, fileOffset, ...access }]),
      unmap: (at, length) => this.areas.apply([{ kind: 'unmap', offset: inBar(at), length }]),
    };
  }

  #interrupts(kind: 'message' | 'eventfd'): InterruptPort {
    const line = ({ address, data }: MsixMessage): number | undefined =>
      address === BigInt(MSI_ADDRESS) ? this.lines.get(data) : undefined;
    return {
      intx: (asserted) => void this.levels.push(asserted),
      msix: (vector, message) => {
        this.messages.push({ vector, ...message });
        const fd = line(message);
        if (fd !== undefined) native.signalEventFd(fd);
      },
      ...(kind === 'eventfd' && { eventFd: (_, message: MsixMessage) => line(message) }),
    };
  }

  #doorbellPort(): DoorbellPort {
    return {
      bind: (bar, offset, _size, eventfd) => {
        const key = `${bar}:${offset}`;
        if (this.doorbells.has(key)) throw new Error(`doorbell ${key} is bound already`);
        this.doorbells.set(key, eventfd);
        return { close: () => void this.doorbells.delete(key) };
      },
    };
  }
}
