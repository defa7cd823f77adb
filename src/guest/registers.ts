/** Register access of a virtio-pci driver: common configuration (virtio 1.3 §4.1.4.3). */
import { VvuError } from '../errors.js';
import type { Structure } from './capabilities.js';
import {
  COMMON_DEVICE_FEATURE,
  COMMON_DEVICE_FEATURE_SELECT,
  COMMON_DEVICE_STATUS,
  COMMON_DRIVER_FEATURE,
  COMMON_DRIVER_FEATURE_SELECT,
  COMMON_QUEUE_NOTIFY_OFF,
  COMMON_QUEUE_SELECT,
} from './constants.js';
import type { PciAccess } from './pci-access.js';

/** Little-endian fields of one structure. Callers know its size. */
export class Registers {
  private readonly word = Buffer.alloc(4);
  private readonly half = this.word.subarray(0, 2);
  private readonly byte = this.word.subarray(0, 1);

  constructor(
    private readonly access: PciAccess,
    readonly structure: Structure,
  ) {}

  read8(offset: number): number {
    return this.read(offset, 1).readUInt8();
  }

  read16(offset: number): number {
    return this.read(offset, 2).readUInt16LE();
  }

  read32(offset: number): number {
    return this.read(offset, 4).readUInt32LE();
  }

  write8(offset: number, value: number): void {
    this.byte.writeUInt8(value);
    this.write(offset, this.byte);
  }

  write16(offset: number, value: number): void {
    this.half.writeUInt16LE(value);
    this.write(offset, this.half);
  }

  write32(offset: number, value: number): void {
    this.word.writeUInt32LE(value);
    this.write(offset, this.word);
  }

  /** 64-bit fields are written as two halves, which every transport accepts (§4.1.3.1). */
  write64(offset: number, value: number): void {
    this.write32(offset, value >>> 0);
    this.write32(offset + 4, Math.floor(value / 2 ** 32));
  }

  private read(offset: number, length: number): Buffer {
    return this.access.barRead(this.structure.bar, this.structure.offset + offset, length);
  }

  private write(offset: number, bytes: Uint8Array): void {
    this.access.barWrite(this.structure.bar, this.structure.offset + offset, bytes);
  }
}

/** The parts of the common configuration that need more than one access. */
export class CommonConfig extends Registers {
  deviceFeatures(): bigint {
    this.write32(COMMON_DEVICE_FEATURE_SELECT, 0);
    const low = this.read32(COMMON_DEVICE_FEATURE);
    this.write32(COMMON_DEVICE_FEATURE_SELECT, 1);
    return BigInt(low) | (BigInt(this.read32(COMMON_DEVICE_FEATURE)) << 32n);
  }

  setDriverFeatures(features: bigint): void {
    this.write32(COMMON_DRIVER_FEATURE_SELECT, 0);
    this.write32(COMMON_DRIVER_FEATURE, Number(features & 0xffff_ffffn));
    this.write32(COMMON_DRIVER_FEATURE_SELECT, 1);
    this.write32(COMMON_DRIVER_FEATURE, Number(features >> 32n));
  }

  get status(): number {
    return this.read8(COMMON_DEVICE_STATUS);
  }

  /** Sets more bits; 0 resets the device instead. */
  addStatus(bits: number): void {
    this.write8(COMMON_DEVICE_STATUS, this.status | bits);
  }

  selectQueue(index: number): void {
    this.write16(COMMON_QUEUE_SELECT, index);
  }

  /**
   * Selects a queue and finds its register in the notification structure (§4.1.4.4).
   * @returns the offset in the structure's BAR
   * @throws VvuError `NOTIFY_OFFSET`, scope `setup`
   */
  notifyRegister(notify: Structure, queue: number): number {
    this.selectQueue(queue);
    const at = this.read16(COMMON_QUEUE_NOTIFY_OFF) * notify.multiplier;
    if (at + 2 <= notify.length) return notify.offset + at;
    throw new VvuError(
      'NOTIFY_OFFSET',
      'setup',
      `queue ${queue} notifies outside of its structure`,
    );
  }
}
