import type { GuestPci } from './guest-pci.js';
import { virtioCapabilities, type VirtioCapability } from './pci-config.js';

/** virtio 1.3 §4.1.4: structure types of virtio_pci_cap. */
export const CAP_COMMON = 1;
export const CAP_NOTIFY = 2;
export const CAP_ISR = 3;
export const CAP_DEVICE = 4;

/** virtio 1.3 §2.1: device status bits. */
export const ACKNOWLEDGE = 1;
export const DRIVER = 2;
export const DRIVER_OK = 4;
export const FEATURES_OK = 8;

export const VIRTIO_F_VERSION_1 = 1n << 32n;
export const VIRTIO_F_ACCESS_PLATFORM = 1n << 33n;
export const NO_VECTOR = 0xffff;

/** Fields of virtio_pci_common_cfg, virtio 1.3 §4.1.4.3: offset and width. */
const COMMON = {
  deviceFeatureSelect: [0x00, 4],
  deviceFeature: [0x04, 4],
  driverFeatureSelect: [0x08, 4],
  driverFeature: [0x0c, 4],
  configMsixVector: [0x10, 2],
  numQueues: [0x12, 2],
  deviceStatus: [0x14, 1],
  configGeneration: [0x15, 1],
  queueSelect: [0x16, 2],
  queueSize: [0x18, 2],
  queueMsixVector: [0x1a, 2],
  queueEnable: [0x1c, 2],
  queueNotifyOff: [0x1e, 2],
  queueDesc: [0x20, 8],
  queueDriver: [0x28, 8],
  queueDevice: [0x30, 8],
} as const;

export type CommonField = keyof typeof COMMON;

/** A virtio-pci device of the guest, driven register by register from the host. */
export class GuestVirtio {
  private constructor(
    readonly pci: GuestPci,
    readonly structures: readonly VirtioCapability[],
  ) {}

  static async open(pci: GuestPci): Promise<GuestVirtio> {
    return new GuestVirtio(pci, virtioCapabilities(await pci.config()));
  }

  /** The first structure of that type. */
  structure(type: number): VirtioCapability {
    const found = this.structures.find((each) => each.type === type);
    if (found === undefined) throw new Error(`no virtio capability of type ${type}`);
    return found;
  }

  get(field: CommonField): Promise<number> {
    const { bar, offset } = this.structure(CAP_COMMON);
    const [at, width] = COMMON[field];
    return this.pci.read(bar, offset + at, width);
  }

  async set(field: CommonField, value: number | bigint): Promise<void> {
    const { bar, offset } = this.structure(CAP_COMMON);
    const [at, width] = COMMON[field];
    // §4.1.3.1: drivers access 64-bit fields as two 32-bit halves.
    if (width !== 8) return this.pci.write(bar, offset + at, width, value);
    await this.pci.write(bar, offset + at, 4, BigInt(value) & 0xffffffffn);
    await this.pci.write(bar, offset + at + 4, 4, BigInt(value) >> 32n);
  }

  async features(): Promise<bigint> {
    await this.set('deviceFeatureSelect', 0);
    const low = await this.get('deviceFeature');
    await this.set('deviceFeatureSelect', 1);
    return (BigInt(await this.get('deviceFeature')) << 32n) | BigInt(low);
  }

  /** Writes 0 to the status and waits until it reads back as 0 (§4.1.4.3.2). */
  async reset(): Promise<void> {
    await this.set('deviceStatus', 0);
    for (let tries = 0; (await this.get('deviceStatus')) !== 0; tries++) {
      if (tries === 100) throw new Error('the device does not finish its reset');
    }
  }

  /** §3.1.1 up to FEATURES_OK; throws if the device does not take the features. */
  async negotiate(wanted: bigint): Promise<void> {
    await this.reset();
    await this.set('deviceStatus', ACKNOWLEDGE);
    await this.set('deviceStatus', ACKNOWLEDGE | DRIVER);
    await this.set('driverFeatureSelect', 0);
    await this.set('driverFeature', wanted & 0xffffffffn);
    await this.set('driverFeatureSelect', 1);
    await this.set('driverFeature', wanted >> 32n);
    await this.set('deviceStatus', ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if (((await this.get('deviceStatus')) & FEATURES_OK) === 0) {
      throw new Error(`the device refuses features 0x${wanted.toString(16)}`);
    }
  }

  async driverOk(): Promise<void> {
    await this.set('deviceStatus', ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  }

  /** Sets the vector for configuration changes; resolves with what reads back (§4.1.5.1.2). */
  async setConfigVector(vector: number): Promise<number> {
    await this.set('configMsixVector', vector);
    return this.get('configMsixVector');
  }

  async notify(queue: number): Promise<void> {
    const { bar, offset, bytes } = this.structure(CAP_NOTIFY);
    await this.set('queueSelect', queue);
    const at = (await this.get('queueNotifyOff')) * bytes.readUInt32LE(16);
    await this.pci.write(bar, offset + at, 2, queue);
  }

  /** Reading clears it. */
  isr(): Promise<number> {
    const { bar, offset } = this.structure(CAP_ISR);
    return this.pci.read(bar, offset, 1);
  }

  /** Bytes of the device-specific configuration, by loads of this width. */
  async deviceConfig(offset: number, length: number, width: 1 | 2 | 4 = 1): Promise<Buffer> {
    const { bar, offset: base } = this.structure(CAP_DEVICE);
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += width) {
      bytes.writeUIntLE(await this.pci.read(bar, base + offset + at, width), at, width);
    }
    return bytes;
  }
}
