import { DmaPool } from '../../src/guest/dma-pool.js';
import type { PciAccess } from '../../src/guest/pci-access.js';
import { RegionAreas } from '../../src/guest/region-areas.js';
import { WindowMemory } from '../../src/guest/window-memory.js';
import type {
  MemoryPort,
  VirtioVhostUserFunction,
  WindowPort,
} from '../../src/hosts/in-process/index.js';
import { createVirtioVhostUserDevice } from '../../src/hosts/in-process/index.js';
import { native } from '../../src/native.js';
import { MappedMemory } from '../../src/virtio/mapped-memory.js';

const RAM = 0x10_0000;
const RAM_BYTES = 4 << 20;
export const WINDOW_BYTES = 64 << 20;

export interface Machine {
  readonly device: VirtioVhostUserFunction;
  readonly access: PciAccess;
  readonly areas: RegionAreas;
  close(): Promise<void>;
}

/** A "hypervisor" whose only program is a driver that polls: RAM, a PCI slot, and a window. */
export function startMachine(
  vhostUserPath: string,
  kinds: { readonly memory: 'segments' | 'accessor'; readonly window: 'mapped' | 'trapped' },
): Machine {
  const fd = native.createMemfd('ram', RAM_BYTES);
  const ram = native.map(fd, { offset: 0, length: RAM_BYTES, writable: true });
  const inside = (address: number, length: number): boolean =>
    address >= RAM && address + length <= RAM + RAM_BYTES;
  const memory: MemoryPort =
    kinds.memory === 'segments'
      ? { segments: [{ address: RAM, length: RAM_BYTES, fd, fileOffset: 0 }] }
      : {
          read: (address, target) => {
            if (!inside(address, target.length)) return false;
            ram.readInto(address - RAM, target);
            return true;
          },
          write: (address, bytes) => {
            if (!inside(address, bytes.length)) return false;
            ram.write(address - RAM, bytes);
            return true;
          },
        };
  const areas = new RegionAreas(native, WINDOW_BYTES);
  const window: WindowPort = {
    size: WINDOW_BYTES,
    ...(kinds.window === 'mapped' && {
      map: (file: number, fileOffset: number, offset: number, length: number) =>
        areas.apply([
          { kind: 'map', offset, length, fd: file, fileOffset, readable: true, writable: true },
        ]),
      unmap: (offset: number, length: number) => areas.apply([{ kind: 'unmap', offset, length }]),
    }),
  };
  const device = createVirtioVhostUserDevice({
    memory,
    window,
    interrupts: { msix: () => undefined, intx: () => undefined },
    vhostUserPath,
  });
  native.closeFd(fd);
  const guestRam = new MappedMemory(native);
  const backing = { memory: ram, offset: 0, readable: true, writable: true };
  guestRam.insert(RAM, RAM_BYTES, backing);
  const pool = new DmaPool(guestRam, RAM, RAM_BYTES);
  const close = async (): Promise<void> => {
    await device.close();
    areas.clear();
    ram.release();
  };
  return { device, access: accessTo(device, areas, pool), areas, close };
}

function accessTo(device: VirtioVhostUserFunction, areas: RegionAreas, pool: DmaPool): PciAccess {
  const barRead = (bar: number, offset: number, length: number): Buffer => {
    const target = Buffer.alloc(length);
    device.barRead(bar, offset, target);
    return target;
  };
  const barWrite = (bar: number, offset: number, bytes: Uint8Array): void =>
    device.barWrite(bar, offset, bytes);
  // A processor's loads and stores: at most 8 bytes each.
  const bytewise = (bar: number) => ({
    read: (at: number, count: number) =>
      Buffer.concat(Array.from({ length: count }, (_, index) => barRead(bar, at + index, 1))),
    write: (at: number, bytes: Uint8Array) =>
      bytes.forEach((byte, index) => barWrite(bar, at + index, Uint8Array.of(byte))),
  });
  return {
    configRead: (offset, length) => {
      const target = Buffer.alloc(length);
      for (let at = 0; at < length; at++)
        device.configRead(offset + at, target.subarray(at, at + 1));
      return target;
    },
    configWrite: (offset, bytes) => device.configWrite(offset, bytes),
    barRead,
    barWrite,
    barSize: (bar) => device.bars.find(({ index }) => index === bar)?.size ?? 0,
    storeOnSignal: (eventfd, bar, offset, bytes) =>
      native.watchEventFd(eventfd, () => barWrite(bar, offset, bytes)),
    allocateDma: (size) => pool.allocate(size),
    openWindow: (bar, offset, length) =>
      new WindowMemory(areas, bytewise(bar), offset, length, () => native.fence()),
    vectorCount: 0,
    enableVector: () => {
      throw new Error('this driver polls');
    },
    disableVectors: () => undefined,
    reset: () => device.reset(),
    close: () => undefined,
  };
}
