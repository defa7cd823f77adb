import test from 'ava';
import type { PciFunction } from '../../src/pci/index.js';
import { Cpu, FakeDevice, setup } from './support.js';

/**
 * The register accesses of the DPDK driver of 2019, in its order and widths: what its
 * virtio_pci.c does, told again in TypeScript.
 */
class DpdkDriver {
  readonly #cpu: Cpu;
  readonly #found = new Map<number, { bar: number; offset: number; at: number }>();
  msixEnabled: boolean | undefined;

  constructor(pci: PciFunction) {
    this.#cpu = new Cpu(pci);
    // It reads each capability as one struct of 16 bytes.
    for (let at = this.#cpu.config(0x34, 1); at !== 0;) {
      const cap = Buffer.alloc(16);
      pci.configRead(at, cap);
      if (cap[0] === 0x11) this.msixEnabled = (cap.readUInt16LE(2) & 0x8000) !== 0;
      if (cap[0] === 0x09) {
        const bar = cap.readUInt8(4);
        const [offset, length] = [cap.readUInt32LE(8), cap.readUInt32LE(12)];
        if (offset + length > pci.barSize(bar)) throw new Error('overflows bar space');
        this.#found.set(cap.readUInt8(3), { bar, offset, at });
      }
      at = cap.readUInt8(1);
    }
  }

  place(cfgType: number): { bar: number; offset: number; at: number } {
    const found = this.#found.get(cfgType);
    if (!found) throw new Error(`no capability of type ${cfgType}`);
    return found;
  }

  multiplier(cfgType: number): number {
    return this.#cpu.config(this.place(cfgType).at + 16, 4);
  }

  get(cfgType: number, offset: number, width: number): number {
    const { bar, offset: start } = this.place(cfgType);
    return this.#cpu.bar(bar, start + offset, width);
  }

  set(cfgType: number, offset: number, width: number, value: number): void {
    const { bar, offset: start } = this.place(cfgType);
    this.#cpu.setBar(bar, start + offset, width, value);
  }

  addStatus(bit: number): void {
    this.set(1, 20, 1, bit | this.get(1, 20, 1));
    this.get(1, 20, 1);
  }

  /** Byte by byte between two equal generations; `during` runs after the first byte. */
  readConfig(offset: number, length: number, during?: () => void): Buffer {
    const bytes = Buffer.alloc(length);
    let [before, after] = [0, 1];
    while (before !== after) {
      before = this.get(1, 21, 1);
      for (let i = 0; i < length; i++) {
        bytes[i] = this.get(4, offset + i, 1);
        if (i === 0) during?.();
        during = undefined;
      }
      after = this.get(1, 21, 1);
    }
    return bytes;
  }

  setQueueVector(index: number, vector: number): number {
    this.set(1, 22, 2, index);
    this.set(1, 26, 2, vector);
    return this.get(1, 26, 2);
  }

  setupQueue(index: number, memory: number): void {
    this.set(1, 22, 2, index);
    const size = this.get(1, 24, 2);
    const available = memory + 16 * size;
    const used = Math.ceil((available + 4 + 2 * size) / 4096) * 4096;
    for (const [field, address] of [
      [32, memory],
      [40, available],
      [48, used],
    ] as const) {
      this.set(1, field, 4, address % 2 ** 32);
      this.set(1, field + 4, 4, Math.floor(address / 2 ** 32));
    }
    this.set(1, 28, 2, 1);
  }

  notify(index: number): void {
    this.set(1, 22, 2, index);
    this.set(2, this.get(1, 30, 2) * this.multiplier(2), 2, index);
  }
}

test('the DPDK driver of 2019 comes up, sees a status change by ISR bit 1, and goes', (t) => {
  const device = new FakeDevice();
  device.queueMaxSizes = [128, 128];
  const { function: pci, host, log } = setup({ device, ownership: 'client', vectors: 257 });
  const cpu = new Cpu(pci);
  // VFIO has enabled MSI-X before the driver looks.
  cpu.setConfig(cpu.config(0x41, 1) + 2, 2, 0x8000);
  const dpdk = new DpdkDriver(pci);
  t.true(dpdk.msixEnabled);
  t.is(dpdk.multiplier(6), 4);
  t.deepEqual(
    [6, 7, 8].map((cfgType) => dpdk.place(cfgType).bar),
    [2, 2, 4],
  );

  dpdk.set(1, 20, 1, 0);
  dpdk.addStatus(1);
  dpdk.addStatus(2);
  for (const word of [0, 1]) {
    dpdk.set(1, 0, 4, word);
    // NOTIFY_ON_EMPTY, ANY_LAYOUT; VERSION_1, ACCESS_PLATFORM: as far as they are offered.
    const wanted = [0x09000000, 0x3][word] ?? 0;
    const offered = dpdk.get(1, 4, 4);
    dpdk.set(1, 8, 4, word);
    dpdk.set(1, 12, 4, offered & wanted);
  }
  dpdk.addStatus(8);
  t.is(dpdk.get(1, 20, 1), 11);
  dpdk.set(1, 16, 2, 0);
  t.is(dpdk.get(1, 16, 2), 0);
  for (const index of [0, 1]) {
    t.is(dpdk.setQueueVector(index, 0), 0);
    dpdk.setupQueue(index, 0x1_0000_0000 + 0x10000 * index);
  }
  dpdk.addStatus(4);
  dpdk.notify(0);
  t.deepEqual(device.take(), [
    'reset',
    'acceptFeatures 300000000',
    'enableQueue 0',
    'enableQueue 1',
    'start',
    'kick 0',
  ]);
  t.like(device.queues[1], {
    size: 128,
    descriptorArea: 0x1_0001_0000,
    driverArea: 0x1_0001_0800,
    deviceArea: 0x1_0001_1000,
  });

  // SLAVE_UP, one byte at a time.
  [1, 0, 0, 0].forEach((byte, i) => dpdk.set(4, i, 1, byte));
  t.is(device.config.bytes.readUInt32LE(), 1);
  device.config.bytes.writeUInt32LE(3);
  device.port?.notifyConfig();
  t.deepEqual(host.take(), ['msix 0 0 0']);
  t.is(dpdk.get(3, 0, 1), 2);
  t.is(dpdk.get(3, 0, 1), 0);

  // A change in the middle of a read is noticed by the generation.
  device.config.bytes.writeUInt32LE(0x01010101);
  const bytes = dpdk.readConfig(0, 4, () => {
    device.config.bytes.writeUInt32LE(0x02020202);
    device.port?.notifyConfig();
  });
  t.is(bytes.toString('hex'), '02020202');

  // del_queue writes zeros, after the reset.
  dpdk.set(1, 20, 1, 0);
  device.take();
  for (const index of [0, 1]) {
    dpdk.set(1, 22, 2, index);
    for (let field = 32; field < 56; field += 4) dpdk.set(1, field, 4, 0);
    dpdk.set(1, 28, 2, 0);
  }
  t.deepEqual(device.take(), []);
  t.deepEqual(log.lines, []);
});
