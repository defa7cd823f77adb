import { DmaPool } from '../../src/guest/dma-pool.js';
import type { PciAccess } from '../../src/guest/pci-access.js';
import { RegionAreas } from '../../src/guest/region-areas.js';
import { WindowMemory } from '../../src/guest/window-memory.js';
import { createVirtioVhostUserDevice } from '../../src/hosts/in-process/index.js';
import { native } from '../../src/native.js';
import { MappedMemory } from '../../src/virtio/mapped-memory.js';

const RAM = 0x10_0000;
const RAM_BYTES = 4 << 20;

/** A guest that polls, in one process with its device; all of the window is trapped. */
export interface InProcessGuest {
  readonly access: PciAccess;
  close(): Promise<void>;
}

export function startGuest(vhostUserPath: string, windowBytes: number): InProcessGuest {
  const fd = native.createMemfd('ram', RAM_BYTES);
  const ram = native.map(fd, { offset: 0, length: RAM_BYTES, writable: true });
  const device = createVirtioVhostUserDevice({
    memory: { segments: [{ address: RAM, length: RAM_BYTES, fd, fileOffset: 0 }] },
    window: { size: windowBytes },
    interrupts: { msix: () => undefined, intx: () => undefined },
    vhostUserPath,
  });
  native.closeFd(fd);
  const reachable = new MappedMemory(native);
  reachable.insert(RAM, RAM_BYTES, { memory: ram, offset: 0, readable: true, writable: true });
  const pool = new DmaPool(reachable, RAM, RAM_BYTES);
  const nothing = new RegionAreas(native, windowBytes);
  const read = (length: number, from: (target: Buffer) => void): Buffer => {
    const target = Buffer.alloc(length);
    from(target);
    return target;
  };
  const barRead = (bar: number, offset: number, length: number): Buffer =>
    read(length, (target) => device.barRead(bar, offset, target));
  const barWrite = (bar: number, offset: number, bytes: Uint8Array): void =>
    device.barWrite(bar, offset, bytes);
  // A processor's loads and stores: at most 8 bytes each.
  const window = (bar: number) => ({
    read: (at: number, count: number) =>
      Buffer.concat(Array.from({ length: count }, (_, index) => barRead(bar, at + index, 1))),
    write: (at: number, bytes: Uint8Array) =>
      bytes.forEach((byte, index) => barWrite(bar, at + index, Uint8Array.of(byte))),
  });
  const access: PciAccess = {
    configRead: (offset, length) =>
      read(length, (target) =>
        target.forEach((_, at) => device.configRead(offset + at, target.subarray(at, at + 1))),
      ),
    configWrite: (offset, bytes) => device.configWrite(offset, bytes),
    barRead,
    barWrite,
    barSize: (bar) => device.bars.find(({ index }) => index === bar)?.size ?? 0,
    storeOnSignal: (eventfd, bar, offset, bytes) =>
      native.watchEventFd(eventfd, () => barWrite(bar, offset, bytes)),
    allocateDma: (size) => pool.allocate(size),
    openWindow: (bar, offset, length) =>
      new WindowMemory(nothing, window(bar), offset, length, () => native.fence()),
    vectorCount: 0,
    enableVector: () => {
      throw new Error('this guest polls');
    },
    disableVectors: () => undefined,
    reset: () => device.reset(),
    close: () => undefined,
  };
  const close = async (): Promise<void> => {
    await device.close();
    ram.release();
  };
  return { access, close };
}
