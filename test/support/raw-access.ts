import type { PciAccess } from '../../src/guest/pci-access.js';
import { MEMORY_BYTES, RawDriver } from './raw-driver.js';

/** A driver by hand behind any way to a function; its memory goes with the access. */
export function rawDriver(access: PciAccess): RawDriver {
  const { iova, memory } = access.allocateDma(MEMORY_BYTES);
  const registers = {
    read: (bar: number, offset: number, width: number) =>
      access.barRead(bar, offset, width).readUIntLE(0, width),
    write: (bar: number, offset: number, width: number, value: number) => {
      const bytes = Buffer.alloc(width);
      bytes.writeUIntLE(value, 0, width);
      access.barWrite(bar, offset, bytes);
    },
  };
  const ram = {
    read: (offset: number, length: number) => memory.read(iova + offset, length),
    write: (offset: number, bytes: Uint8Array) => memory.write(iova + offset, bytes),
    fill: (offset: number, length: number, value: number) =>
      memory.write(iova + offset, Buffer.alloc(length, value)),
    loadU16: (offset: number) => memory.loadU16(iova + offset),
    loadU32: (offset: number) => memory.loadU32(iova + offset),
    storeU16: (offset: number, value: number) => memory.storeU16(iova + offset, value),
  };
  return new RawDriver(registers, ram, iova);
}
