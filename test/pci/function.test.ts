import test from 'ava';
import fc from 'fast-check';
import { FunctionInterrupts, PciFunction, type Bar } from '../../src/pci/index.js';
import { capabilityAt, Cpu, FakeInterruptHost, RamBlock, RecordingLog, setup } from './support.js';

function bare(bars: readonly Bar[], log = new RecordingLog()): PciFunction {
  const host = new FakeInterruptHost(false);
  return new PciFunction({
    ids: { vendorId: 0x1234, deviceId: 0x5678 },
    bars,
    capabilities: [],
    interrupts: new FunctionInterrupts({ host, vectors: 0, ownership: 'function' }),
    onReset: () => undefined,
    logger: log,
  });
}

function bar(size: number, regions: Bar['regions']): Bar {
  return { index: 0, size, kind: 'memory64', prefetchable: true, regions };
}

test('accesses are split over regions, holes and the end of the BAR', (t) => {
  const first = new RamBlock(4);
  const second = new RamBlock(16);
  const pci = bare([
    bar(32, [
      { offset: 20, length: 12, block: second },
      { offset: 8, length: 4, block: first },
    ]),
  ]);
  pci.barWrite(0, 4, Buffer.from(Array.from({ length: 64 }, (_, i) => i + 1)));
  t.is(first.bytes.toString('hex'), '05060708');
  t.is(second.bytes.toString('hex'), '1112131415161718191a1b1c' + '00000000');
  const target = Buffer.alloc(64, 0xee);
  pci.barRead(0, 6, target);
  const expected = Buffer.alloc(64);
  first.bytes.copy(expected, 2);
  second.bytes.copy(expected, 14, 0, 12);
  t.deepEqual(target, expected);
});

test('a BAR of 64 GiB serves offsets above 4 GiB', (t) => {
  const block = new RamBlock(4096);
  const size = 64 * 2 ** 30;
  const pci = bare([bar(size, [{ offset: size - 4096, length: 4096, block }])]);
  pci.barWrite(0, size - 4096 + 12, Buffer.from('cafe', 'hex'));
  t.is(block.bytes.toString('hex', 12, 14), 'cafe');
  // The same offset modulo 2^32 is a hole.
  const target = Buffer.alloc(2, 0xee);
  pci.barRead(0, (size - 4096 + 12) % 2 ** 32, target);
  t.is(target.toString('hex'), '0000');
});

test('BARs that are not there, and offsets that are no offsets', (t) => {
  const block = new RamBlock(16);
  const pci = bare([bar(16, [{ offset: 0, length: 16, block }])]);
  for (const [index, offset] of [
    [1, 0],
    [7, 0],
    [-1, 0],
    [0, -1],
    [0, 16],
    [0, 2 ** 60],
    [0, NaN],
    [0, 0.5],
  ] as const) {
    const target = Buffer.alloc(4, 0xee);
    pci.barWrite(index, offset, Buffer.alloc(1, 0xff));
    pci.barRead(index, offset, target);
    t.is(target.readUInt32LE(), 0, `BAR ${index} at ${offset}`);
  }
  t.true(block.bytes.every((byte) => byte === 0));
  t.is(pci.barSize(1), 0);
});

test('a block that throws loses the access, not the process', (t) => {
  const log = new RecordingLog();
  const broken = {
    size: 16,
    read: () => {
      throw new Error('read went wrong');
    },
    write: () => {
      throw new Error('write went wrong');
    },
  };
  const pci = bare([bar(16, [{ offset: 0, length: 16, block: broken }])], log);
  t.is(new Cpu(pci).bar(0, 0, 4), 0);
  pci.barWrite(0, 0, Buffer.alloc(4));
  t.is(log.lines.length, 2);
});

test('layouts that cannot be are refused at setup', (t) => {
  const ram = new RamBlock(16);
  const at = (offset: number, length: number) => ({ offset, length, block: ram });
  const cases: Record<string, readonly Bar[]> = {
    'no power of two': [bar(48, [])],
    'too small': [bar(8, [])],
    'not a number': [bar(NaN, [])],
    'more than 2 GiB in 32 bits': [{ ...bar(2 ** 32, []), kind: 'memory32' }],
    'index out of range': [{ ...bar(16, []), index: 6 }],
    '64-bit BAR 5': [{ ...bar(16, []), index: 5 }],
    'BAR taken by the upper half of another': [bar(16, []), { ...bar(16, []), index: 1 }],
    'overlapping regions': [bar(32, [at(0, 16), at(8, 16)])],
    'region after the end': [bar(16, [at(8, 16)])],
    'region longer than its block': [bar(32, [at(0, 32)])],
    'negative region': [bar(32, [at(-16, 16)])],
    'empty region': [bar(32, [at(0, 0)])],
  };
  for (const [name, bars] of Object.entries(cases)) {
    t.throws(() => bare(bars), { code: 'BAD_LAYOUT' }, name);
  }
});

test('the builder refuses structures without a place', (t) => {
  const structures = {
    common: { bar: 0, offset: 0 },
    isr: { bar: 0, offset: 0x1000 },
    device: { bar: 0, offset: 0x2000 },
    notify: { bar: 0, offset: 0x3000 },
  };
  const ram = new RamBlock(16);
  const capability = { cfgType: 8, bar: 4, offset: 0, length: 0x10000 };
  for (const compose of [
    { structures: { ...structures, isr: { bar: 0, offset: 60 } } },
    { structures: { ...structures, isr: { bar: 3, offset: 0 } } },
    { structures: { ...structures, isr: { bar: 0, offset: 0x1002 } } },
    { structures: { ...structures, notify: { bar: 0, offset: 0x3ffc } } },
    { msix: { table: { bar: 3, offset: 0 }, pba: { bar: 1, offset: 0x8000 } } },
    { msix: { table: { bar: 1, offset: 4 }, pba: { bar: 1, offset: 0x8000 } } },
    { msix: { table: { bar: 1, offset: 0 }, pba: { bar: 1, offset: 0x10 } } },
    { blocks: [{ bar: 0, offset: 0x2008, block: ram }] },
    { blocks: [{ bar: 5, offset: 0, block: ram }] },
    { capabilities: [{ ...capability, length: 0x10001 }] },
    { capabilities: Array.from({ length: 8 }, (_, id) => ({ ...capability, id })) },
  ]) {
    t.throws(() => setup({ compose }), { code: 'BAD_LAYOUT' }, JSON.stringify(compose));
  }
  t.throws(
    () =>
      setup({ vectors: 0, compose: { msix: { table: structures.common, pba: structures.isr } } }),
    {
      code: 'BAD_LAYOUT',
    },
  );
});

test('describe() has what a host announces', (t) => {
  const description = setup().function.describe();
  t.like(description, {
    vendorId: 0x1af4,
    deviceId: 0x1058,
    subsystemVendorId: 0x1af4,
    subsystemId: 0x1100,
    revisionId: 1,
    classCode: 0xff0000,
    configSize: 4096,
    msixVectors: 3,
  });
  t.deepEqual(description.bars[3], {
    index: 4,
    size: 0x10000,
    kind: 'memory64',
    prefetchable: true,
  });
});

test('VIRTIO_PCI_CAP_PCI_CFG reads and writes BARs for firmware', (t) => {
  const { function: pci, doorbells, device } = setup();
  const cpu = new Cpu(pci);
  const cap = capabilityAt(pci, 9, 5);
  const point = (bar: number, offset: number, length: number): void => {
    cpu.setConfig(cap + 4, 1, bar);
    cpu.setConfig(cap + 8, 4, offset);
    cpu.setConfig(cap + 12, 4, length);
  };
  const data = cap + 16;
  point(0, 0x12, 2);
  t.is(cpu.config(data, 2), 2, 'num_queues');
  point(0, 20, 1);
  cpu.setConfig(data, 1, 1);
  t.is(cpu.bar(0, 20, 1), 1, 'device_status');
  t.is(cpu.config(data, 1), 1);
  point(2, 0x10, 4);
  cpu.setConfig(data, 4, 0x11223344);
  t.is(doorbells.bytes.readUInt32LE(0x10), 0x11223344);
  point(2, 0x14, 2);
  cpu.setConfig(data, 4, 0xaabbccdd);
  t.is(doorbells.bytes.readUInt32LE(0x14), 0xccdd, 'only the first length bytes');
  t.is(cpu.config(cap + 4, 1), 2);
  t.is(cpu.config(cap + 12, 4), 2);
  t.deepEqual(device.take(), []);
});

for (const [what, bar, offset, length] of [
  ['length 0', 2, 0, 0],
  ['length 3', 2, 0, 3],
  ['length 8', 2, 0, 8],
  ['unaligned', 2, 2, 4],
  ['past the end', 2, 0x1000, 4],
  ['wrapping offset', 2, 0xfffffffc, 4],
  ['BAR 3 does not exist', 3, 0, 4],
  ['upper half of BAR 4', 5, 0, 4],
  ['BAR 255', 255, 0, 4],
] as const) {
  test(`PCI_CFG with ${what} reads zero and writes nothing`, (t) => {
    const { function: pci, doorbells } = setup();
    const cpu = new Cpu(pci);
    doorbells.bytes.fill(0x5a);
    const cap = capabilityAt(pci, 9, 5);
    cpu.setConfig(cap + 4, 1, bar);
    cpu.setConfig(cap + 8, 4, offset);
    cpu.setConfig(cap + 12, 4, length);
    cpu.setConfig(cap + 16, 4, 0xffffffff);
    t.is(cpu.config(cap + 16, 4), 0);
    t.true(doorbells.bytes.every((byte) => byte === 0x5a));
  });
}

test('dumping the configuration has no side effect, and a reset closes the window', (t) => {
  const { function: pci, interrupts } = setup();
  const cpu = new Cpu(pci);
  interrupts.raise(1, 0xffff);
  pci.configRead(0, Buffer.alloc(4096));
  t.is(cpu.bar(0, 0x1000, 1), 1);
  const cap = capabilityAt(pci, 9, 5);
  cpu.setConfig(cap + 8, 4, 0x1000);
  cpu.setConfig(cap + 12, 4, 1);
  pci.reset('device-reset');
  interrupts.raise(1, 0xffff);
  pci.configRead(0, Buffer.alloc(4096));
  t.is(cpu.bar(0, 0x1000, 1), 1);
});

test('no access of any width, place or value ever throws or leaves the tables', (t) => {
  const access = fc.record({
    space: fc.constantFrom('config', 0, 1, 2, 3, 4, 5),
    write: fc.boolean(),
    offset: fc.oneof(fc.nat(0x100), fc.nat(0x4010), fc.nat(0x10010), fc.maxSafeNat()),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 70 }),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
      const { function: pci, log } = setup();
      for (const { space, write, offset, bytes } of accesses) {
        if (space === 'config') {
          if (write) pci.configWrite(offset, bytes);
          else pci.configRead(offset, bytes);
        } else if (write) pci.barWrite(Number(space), offset, bytes);
        else pci.barRead(Number(space), offset, bytes);
      }
      const cpu = new Cpu(pci);
      const intact = cpu.config(0, 4) === 0x10581af4 && (cpu.config(0x20, 4) & 0xf) === 0xc;
      return intact && !log.lines.some((line) => line.startsWith('error'));
    }),
    { numRuns: 300 },
  );
  t.pass();
});
