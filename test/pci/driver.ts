import { capabilityAt, Cpu, setup, type SetupOptions } from './support.js';

/** Offsets in `struct virtio_pci_common_cfg`, written down from virtio 1.3 §4.1.4.3. */
export const DEVICE_FEATURE_SELECT = 0;
export const DEVICE_FEATURE = 4;
export const DRIVER_FEATURE_SELECT = 8;
export const DRIVER_FEATURE = 12;
export const CONFIG_MSIX_VECTOR = 16;
export const NUM_QUEUES = 18;
export const DEVICE_STATUS = 20;
export const CONFIG_GENERATION = 21;
export const QUEUE_SELECT = 22;
export const QUEUE_SIZE = 24;
export const QUEUE_MSIX_VECTOR = 26;
export const QUEUE_ENABLE = 28;
export const QUEUE_NOTIFY_OFF = 30;
export const QUEUE_DESC = 32;
export const QUEUE_DRIVER = 40;
export const QUEUE_DEVICE = 48;
export const QUEUE_RESET = 58;

export const ISR = 0x1000;
export const NOTIFY = 0x3000;
export const VERSION_1_AND_RING_RESET = 0x101;

/** The register accesses of a driver like Linux's, one by one. */
export function driver(options: SetupOptions = {}) {
  const parts = setup(options);
  const cpu = new Cpu(parts.function);
  const status = (): number => cpu.bar(0, DEVICE_STATUS, 1);
  const setStatus = (value: number): void => cpu.setBar(0, DEVICE_STATUS, 1, value);
  const writeFeatures = (low: number, high: number): void => {
    cpu.setBar(0, DRIVER_FEATURE_SELECT, 4, 0);
    cpu.setBar(0, DRIVER_FEATURE, 4, low);
    cpu.setBar(0, DRIVER_FEATURE_SELECT, 4, 1);
    cpu.setBar(0, DRIVER_FEATURE, 4, high);
  };
  const setupQueue = (index: number, base: number): void => {
    cpu.setBar(0, QUEUE_SELECT, 2, index);
    cpu.setBar(0, QUEUE_SIZE, 2, 64);
    [QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE].forEach((field, i) => {
      const address = base + 0x1000 * i;
      cpu.setBar(0, field, 4, address % 2 ** 32);
      cpu.setBar(0, field + 4, 4, Math.floor(address / 2 ** 32));
    });
    cpu.setBar(0, QUEUE_ENABLE, 2, 1);
  };
  /** Up to FEATURES_OK. */
  const negotiate = (high = VERSION_1_AND_RING_RESET): void => {
    setStatus(0);
    setStatus(1);
    setStatus(3);
    writeFeatures(0, high);
    setStatus(11);
  };
  const bringUp = (): void => {
    negotiate();
    setupQueue(0, 0x10000);
    setupQueue(1, 0x1_2345_6000);
    setStatus(15);
    parts.device.take();
  };
  return { ...parts, cpu, status, setStatus, writeFeatures, setupQueue, negotiate, bringUp };
}

export function enableMsix(parts: ReturnType<typeof driver>): void {
  const { cpu } = parts;
  cpu.setConfig(capabilityAt(parts.function, 0x11) + 2, 2, 0x8000);
  for (let vector = 0; vector < 3; vector++) {
    cpu.setBar(1, 16 * vector, 4, 0xfee00000);
    cpu.setBar(1, 16 * vector + 8, 4, 0x40 + vector);
    cpu.setBar(1, 16 * vector + 12, 4, 0);
  }
}
