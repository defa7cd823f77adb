import test from 'ava';
import type { CommandState } from '../../src/pci/index.js';
import { capabilityAt, Cpu, setup, walkCapabilities } from './support.js';

test('the header is the one of an unassigned-class endpoint, byte for byte', (t) => {
  const { function: pci } = setup();
  const header = Buffer.alloc(64, 0xee);
  pci.configRead(0, header);
  t.is(
    header.toString('hex'),
    [
      'f41a' + '5810' + '0000' + '1000', // vendor, device, command, status: capability list
      '01' + '0000ff' + '00' + '00' + '00' + '00', // revision, class code, ..., header type 0
      '00000000' + '00000000' + '00000000' + '00000000', // BARs 0 to 3
      '0c000000' + '00000000', // BAR 4: 64-bit prefetchable
      '00000000' + 'f41a' + '0011' + '00000000', // CIS, subsystem ids, no expansion ROM
      '40' + '00000000000000' + '00' + '01' + '00' + '00', // capabilities at 0x40, pin INTA
    ].join(''),
  );
});

test('identification, ROM and pin ignore writes; line and cache line size keep them', (t) => {
  const { function: pci } = setup();
  const cpu = new Cpu(pci);
  for (const offset of [0x00, 0x08, 0x2c, 0x28, 0x30]) {
    const before = cpu.config(offset, 4);
    cpu.setConfig(offset, 4, 0xffffffff);
    t.is(cpu.config(offset, 4), before, `offset ${offset}`);
  }
  cpu.setConfig(0x3c, 2, 0x050b);
  t.is(cpu.config(0x3c, 2), 0x010b);
  cpu.setConfig(0x0c, 1, 0x10);
  t.is(cpu.config(0x0c, 1), 0x10);
});

test('Linux and QEMU size BARs with all ones', (t) => {
  const cpu = new Cpu(setup().function);
  const expected = [0xffffc000, 0xffff0000, 0xfffff000, 0, 0xffff000c, 0xffffffff];
  for (const [index, value] of expected.entries()) {
    const at = 0x10 + 4 * index;
    const saved = cpu.config(at, 4);
    cpu.setConfig(at, 4, 0xffffffff);
    t.is(cpu.config(at, 4), value, `BAR ${index}`);
    cpu.setConfig(at, 4, saved);
    t.is(cpu.config(at, 4), saved);
  }
});

test('SeaBIOS sizes with the address mask, QEMU zeroes after reset: type bits survive', (t) => {
  const cpu = new Cpu(setup().function);
  cpu.setConfig(0x20, 4, 0xfffffff0);
  cpu.setConfig(0x24, 4, 0xffffffff);
  t.is(cpu.config(0x20, 4), 0xffff000c);
  cpu.setConfig(0x20, 4, 0);
  cpu.setConfig(0x24, 4, 0);
  t.is(cpu.config(0x20, 4), 0x0000000c);
  t.is(cpu.config(0x24, 4), 0);
  cpu.setConfig(0x10, 4, 0);
  t.is(cpu.config(0x10, 4), 0);
});

test('a BAR of more than 4 GiB is sized by both of its dwords', (t) => {
  const size = 64 * 2 ** 30;
  const { function: pci } = setup({
    compose: {
      bars: [
        { index: 0, size: 0x4000, kind: 'memory64', prefetchable: false },
        { index: 2, size: 0x10000, kind: 'memory32', prefetchable: true },
        { index: 4, size, kind: 'memory64', prefetchable: true },
      ],
      msix: { table: { bar: 2, offset: 0 }, pba: { bar: 2, offset: 0x8000 } },
      blocks: [],
      capabilities: [{ cfgType: 8, bar: 4, offset: 0, length: size }],
    },
  });
  const cpu = new Cpu(pci);
  for (let at = 0x10; at < 0x28; at += 4) cpu.setConfig(at, 4, 0xffffffff);
  const sized = [0, 1, 2, 3, 4, 5].map((index) => cpu.config(0x10 + 4 * index, 4));
  t.deepEqual(sized, [0xffffc004, 0xffffffff, 0xffff0008, 0, 0x0000000c, 0xfffffff0]);
  // A 32-bit length cannot say 64 GiB; offset + length must not overflow in a driver's u32.
  const at = capabilityAt(pci, 9, 8);
  t.is(cpu.config(at + 12, 4), 0xfffff000);
});

test('byte-wise BAR writes add up, and the function tells where its BARs are decoded', (t) => {
  const { function: pci } = setup();
  const cpu = new Cpu(pci);
  [0x00, 0x00, 0x0a, 0x12].forEach((byte, i) => cpu.setConfig(0x20 + i, 1, byte));
  cpu.setConfig(0x24, 2, 0x0034);
  t.is(cpu.config(0x20, 4), 0x120a000c);
  t.is(pci.barAddress(4), undefined);
  cpu.setConfig(4, 2, 2);
  t.is(pci.barAddress(4), 0x34_120a_0000n);
  t.is(pci.barAddress(0), 0n);
  t.is(pci.barAddress(3), undefined);
});

test('the command register takes only what the function has, and tells its host', (t) => {
  const commands: CommandState[] = [];
  const { function: pci } = setup({
    compose: { onCommand: (command) => commands.push(command) },
  });
  const cpu = new Cpu(pci);
  cpu.setConfig(4, 2, 0xffff);
  t.is(cpu.config(4, 2), 0x0546);
  t.deepEqual(commands, [{ memory: true, busMaster: true, intxDisabled: true }]);
  cpu.setConfig(4, 1, 0x02);
  t.is(cpu.config(4, 2), 0x0502);
  t.deepEqual(pci.command, { memory: true, busMaster: false, intxDisabled: true });
  // A 4-byte write goes on into the status register, whose error bits are not stored.
  cpu.setConfig(4, 4, 0xffff0004);
  t.is(cpu.config(4, 4), 0x00100004);
});

test('the capability chain: PCIe, MSI-X, then every virtio structure', (t) => {
  const { function: pci } = setup();
  const found = walkCapabilities(pci);
  t.deepEqual(
    found.map(({ id, bytes }) => (id === 9 ? `9:${bytes[3] ?? ''}` : `${id}`)),
    ['16', '17', '9:1', '9:2', '9:3', '9:4', '9:5', '9:6', '9:7', '9:8'],
  );
  const hex = found.map(({ bytes }) => bytes.subarray(2, 20).toString('hex'));
  // Message control: 3 vectors. Table and PBA: offset | BIR.
  t.is(hex[1]?.slice(0, 20), '0200' + '01000000' + '01800000');
  // cap_len, cfg_type, bar, id, padding, offset, length (and multiplier).
  t.is(hex[2]?.slice(0, 28), '10' + '01' + '00' + '00' + '0000' + '00000000' + '40000000');
  t.is(hex[3], '14' + '02' + '00' + '00' + '0000' + '00300000' + '08000000' + '04000000');
  t.is(hex[4]?.slice(0, 28), '10' + '03' + '00' + '00' + '0000' + '00100000' + '04000000');
  t.is(hex[5]?.slice(0, 28), '10' + '04' + '00' + '00' + '0000' + '00200000' + '18000000');
  t.is(hex[6], '14' + '05' + '00' + '00' + '0000' + '00000000' + '00000000' + '00000000');
  t.is(hex[7], '14' + '06' + '02' + '00' + '0000' + '00000000' + '00080000' + '04000000');
  t.is(hex[8]?.slice(0, 28), '10' + '07' + '02' + '00' + '0000' + '00080000' + '04000000');
  t.is(hex[9]?.slice(0, 28), '10' + '08' + '04' + '00' + '0000' + '00000000' + '00000100');
});

test('PCI Express capability: an endpoint with FLR, version 2 where 60 bytes fit', (t) => {
  for (const [extra, version, length] of [
    [undefined, 1, 20],
    [[], 2, 60],
  ] as const) {
    const { function: pci } = setup({ compose: extra ? { capabilities: extra } : {} });
    const pcie = walkCapabilities(pci)[0];
    t.is(pcie?.id, 0x10);
    t.is(pcie?.bytes.length, length);
    t.is(pcie?.bytes.readUInt16LE(2), version);
    t.is(pcie?.bytes.readUInt32LE(4), 0x10008000);
    t.is(pcie?.bytes.readUInt16LE(0x12), 0x11);
  }
});

test('struct virtio_pci_cap64 has the upper halves after the capability', (t) => {
  const { function: pci } = setup({
    compose: {
      capabilities: [{ cfgType: 8, bar: 4, offset: 0x1000, length: 0x2000, id: 5, wide: true }],
    },
  });
  const cap = walkCapabilities(pci).at(-1);
  t.is(
    cap?.bytes.subarray(2, 24).toString('hex'),
    '18' + '08' + '04' + '05' + '0000' + '00100000' + '00200000' + '00000000' + '00000000',
  );
});

test('the extended area is empty, and accesses past the end read zero', (t) => {
  const { function: pci } = setup();
  const bytes = Buffer.alloc(4096 + 64, 0xee);
  pci.configRead(0, bytes);
  t.true(bytes.subarray(256).every((byte) => byte === 0));
  pci.configWrite(0x100, Buffer.alloc(8192, 0xff));
  t.is(new Cpu(pci).config(0x100, 4), 0);
  for (const offset of [4096, 2 ** 40, -4, NaN, 1.5]) {
    const target = Buffer.alloc(4, 0xee);
    pci.configRead(offset, target);
    t.is(target.readUInt32LE(), 0);
    t.notThrows(() => pci.configWrite(offset, target));
  }
});

test('Initiate FLR resets everything once, after the write, and reads as 0', (t) => {
  const { function: pci, device, interrupts } = setup();
  const cpu = new Cpu(pci);
  const control = capabilityAt(pci, 0x10) + 8;
  cpu.setConfig(0x20, 4, 0x12340000);
  cpu.setConfig(4, 2, 0x406);
  cpu.setConfig(capabilityAt(pci, 0x11) + 2, 2, 0x8000);
  t.true(interrupts.msix?.enabled);
  // The dword holds device_status too: its half must not land in fresh registers.
  cpu.setConfig(control, 4, 0x0000a810);
  t.deepEqual(device.take(), ['reset']);
  t.is(cpu.config(control, 2), 0x2810);
  t.is(cpu.config(4, 2), 0);
  t.is(cpu.config(0x20, 4), 0xc);
  t.is(cpu.config(capabilityAt(pci, 0x11) + 2, 2), 2);
  t.false(interrupts.msix?.enabled);
  cpu.setConfig(control, 2, 0x2810);
  t.deepEqual(device.take(), []);
});

test('the status register shows a pending INTx', (t) => {
  const { function: pci, interrupts } = setup();
  const cpu = new Cpu(pci);
  interrupts.raise(1, 0xffff);
  t.is(cpu.config(6, 2), 0x18);
  cpu.setConfig(4, 2, 0x400);
  t.is(cpu.config(6, 2), 0x18);
  cpu.bar(0, 0x1000, 1);
  t.is(cpu.config(6, 2), 0x10);
});
