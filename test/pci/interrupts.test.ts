import test from 'ava';
import { FunctionInterrupts } from '../../src/pci/index.js';
import { capabilityAt, Cpu, FakeInterruptHost, setup } from './support.js';

const NO_VECTOR = 0xffff;

/** Programs a table entry as Linux does: masked, message, then unmasked. */
function program(cpu: Cpu, vector: number, address: number, data: number): void {
  const entry = 16 * vector;
  cpu.setBar(1, entry + 12, 4, 1);
  cpu.setBar(1, entry, 4, address);
  cpu.setBar(1, entry + 4, 4, 0);
  cpu.setBar(1, entry + 8, 4, data);
  cpu.setBar(1, entry + 12, 4, 0);
}

function msixSetup(canRelay = false) {
  const parts = setup({ canRelay });
  const cpu = new Cpu(parts.function);
  const control = capabilityAt(parts.function, 0x11) + 2;
  const setControl = (value: number): void => cpu.setConfig(control, 2, value);
  return { ...parts, cpu, setControl, control };
}

test('vectors come up masked, and the table keeps what the driver writes', (t) => {
  const { cpu } = msixSetup();
  t.is(cpu.bar(1, 12, 4), 1);
  t.is(cpu.bar(1, 44, 4), 1);
  program(cpu, 1, 0xfee01007, 0x4123);
  // Message addresses are dword aligned, and of vector control only bit 0 exists.
  t.is(cpu.bar(1, 16, 4), 0xfee01004);
  t.is(cpu.bar(1, 24, 4), 0x4123);
  cpu.setBar(1, 28, 4, 0xfffffffe);
  t.is(cpu.bar(1, 28, 4), 0);
  cpu.setBar(1, 16, 6, 0x0002_fee0_2000);
  t.is(cpu.bar(1, 16, 6), 0x0002_fee0_2000);
});

test('an enabled, unmasked vector sends its message at once', (t) => {
  const { cpu, setControl, interrupts, host } = msixSetup();
  setControl(0x8000);
  program(cpu, 2, 0xfee00000, 0x31);
  interrupts.raise(1, 2);
  t.deepEqual(host.take(), ['msix 2 fee00000 31']);
  t.is(cpu.bar(1, 0x8000, 4), 0);
});

test('a masked vector is pending until it is unmasked, and then sent once', (t) => {
  const { cpu, setControl, interrupts, host } = msixSetup();
  setControl(0x8000);
  program(cpu, 1, 0xfee00000, 0x31);
  cpu.setBar(1, 28, 4, 1);
  interrupts.raise(1, 1);
  interrupts.raise(1, 1);
  t.deepEqual(host.take(), []);
  t.is(cpu.bar(1, 0x8000, 4), 2);
  cpu.setBar(1, 0x8000, 4, 0);
  t.is(cpu.bar(1, 0x8000, 4), 2, 'the pending bits are read-only');
  cpu.setBar(1, 28, 4, 0);
  t.deepEqual(host.take(), ['msix 1 fee00000 31']);
  t.is(cpu.bar(1, 0x8000, 4), 0);
});

test('the function mask holds all vectors back', (t) => {
  const { cpu, setControl, interrupts, host, control } = msixSetup();
  setControl(0xc000);
  t.is(cpu.config(control, 2), 0xc002);
  for (const vector of [0, 1, 2]) program(cpu, vector, 0xfee00000, vector);
  interrupts.raise(1, 0);
  interrupts.raise(1, 2);
  t.is(cpu.bar(1, 0x8000, 1), 5);
  setControl(0x8000);
  t.deepEqual(host.take(), ['msix 0 fee00000 0', 'msix 2 fee00000 2']);
});

test('vectors that do not exist are not sent', (t) => {
  const { setControl, interrupts, host } = msixSetup();
  setControl(0x8000);
  interrupts.raise(1, 3);
  interrupts.raise(1, NO_VECTOR);
  t.deepEqual(host.take(), []);
});

test('vector count: up to 2048, pending bits in whole quadwords', (t) => {
  const host = new FakeInterruptHost(false);
  const make = (vectors: number) =>
    new FunctionInterrupts({ host, vectors, ownership: 'function' });
  t.is(make(2048).msix?.pba.size, 256);
  t.is(make(65).msix?.pba.size, 16);
  t.is(make(0).vectorCount, 0);
  for (const vectors of [2049, -1, 1.5]) t.throws(() => make(vectors), { code: 'BAD_VECTORS' });
});

test('with the table at the client, vectors are delivered whatever the registers say', (t) => {
  const { interrupts, host } = setup({ ownership: 'client' });
  interrupts.raise(0, 1);
  t.deepEqual(host.take(), ['msix 1 0 0']);
});

test('INTx follows the ISR, and reading the ISR clears both', (t) => {
  const { cpu, interrupts, host } = msixSetup();
  interrupts.raise(1, NO_VECTOR);
  interrupts.raise(2, NO_VECTOR);
  t.deepEqual(host.take(), ['intx true']);
  t.true(interrupts.intx.asserted);
  t.is(cpu.bar(0, 0x1000, 1), 3);
  t.deepEqual(host.take(), ['intx false']);
  t.is(cpu.bar(0, 0x1000, 4), 0);
  cpu.setBar(0, 0x1000, 4, 0xffffffff);
  t.is(cpu.bar(0, 0x1000, 1), 0);
});

test('Interrupt Disable lowers the line and keeps the cause', (t) => {
  const { cpu, interrupts, host } = msixSetup();
  interrupts.raise(1, NO_VECTOR);
  cpu.setConfig(4, 2, 0x400);
  cpu.setConfig(4, 2, 0);
  t.deepEqual(host.take(), ['intx true', 'intx false', 'intx true']);
});

test('MSI-X silences INTx, but the ISR bits are set all the same', (t) => {
  const { cpu, setControl, interrupts, host } = msixSetup();
  setControl(0x8000);
  program(cpu, 0, 0xfee00000, 0);
  interrupts.raise(2, 0);
  t.deepEqual(host.take(), ['msix 0 fee00000 0']);
  t.is(cpu.bar(0, 0x1000, 1), 2);
  interrupts.raise(1, NO_VECTOR);
  t.deepEqual(host.take(), []);
  setControl(0);
  t.deepEqual(host.take(), ['intx true']);
});

test('a kick eventfd is relayed while its vector can be delivered', (t) => {
  const { cpu, setControl, interrupts, host } = msixSetup(true);
  setControl(0x8000);
  program(cpu, 1, 0xfee00000, 0x41);
  const binding = interrupts.bind(7, 1);
  t.deepEqual(host.relays.get(7), { vector: 1, message: { address: 0xfee00000n, data: 0x41 } });
  cpu.setBar(1, 28, 4, 1);
  t.is(host.relays.size, 0, 'masked: signals stay in the eventfd');
  t.is(host.watches.size, 0);
  cpu.setBar(1, 24, 4, 0x42);
  cpu.setBar(1, 28, 4, 0);
  t.is(host.relays.get(7)?.message.data, 0x42);
  setControl(0xc000);
  t.is(host.relays.size, 0);
  setControl(0x8000);
  t.is(host.relays.size, 1);
  binding.close();
  binding.close();
  t.is(host.relays.size, 0);
  setControl(0xc000);
  setControl(0x8000);
  t.is(host.relays.size, 0);
});

test('other vectors changing leaves a relay alone', (t) => {
  const { cpu, setControl, interrupts, host } = msixSetup(true);
  setControl(0x8000);
  program(cpu, 1, 0xfee00000, 0x41);
  interrupts.bind(7, 1);
  const before = host.relays.get(7);
  program(cpu, 0, 0xfee00000, 0x40);
  program(cpu, 2, 0xfee00000, 0x42);
  t.is(host.relays.get(7), before);
  // Nor does anything that ends where it began: a busy relay is not torn down for it.
  setControl(0x8000);
  cpu.setBar(1, 28, 4, 0);
  t.is(host.relays.get(7), before);
});

test('a host that cannot relay gets watched kicks, masked ones as pending bits', (t) => {
  const { cpu, setControl, interrupts, host } = msixSetup();
  setControl(0x8000);
  program(cpu, 1, 0xfee00000, 0x41);
  interrupts.bind(7, 1);
  host.signal(7);
  t.deepEqual(host.take(), ['msix 1 fee00000 41']);
  cpu.setBar(1, 28, 4, 1);
  host.signal(7);
  t.is(cpu.bar(1, 0x8000, 1), 2);
  cpu.setBar(1, 28, 4, 0);
  t.deepEqual(host.take(), ['msix 1 fee00000 41']);
});

test('a kick without a vector is ISR bit 2 and INTx, and waits under MSI-X', (t) => {
  const { cpu, setControl, interrupts, host } = msixSetup(true);
  const binding = interrupts.bind(7, NO_VECTOR);
  host.signal(7);
  t.deepEqual(host.take(), ['intx true']);
  t.is(cpu.bar(0, 0x1000, 1), 4);
  setControl(0x8000);
  t.is(host.watches.size, 0);
  setControl(0);
  t.is(host.watches.size, 1);
  binding.close();
  t.is(host.watches.size, 0);
});

test('kicks at a client that owns the table are relayed at once', (t) => {
  const { interrupts, host } = setup({ ownership: 'client', canRelay: true });
  interrupts.bind(7, 2);
  interrupts.bind(8, NO_VECTOR);
  t.deepEqual(host.relays.get(7), { vector: 2, message: { address: 0n, data: 0 } });
  t.deepEqual([...host.watches.keys()], [8]);
});

test('a function without MSI-X has INTx alone', (t) => {
  const { interrupts, host, function: pci } = setup({ vectors: 0 });
  t.throws(() => capabilityAt(pci, 0x11));
  t.is(pci.describe().msixVectors, 0);
  interrupts.raise(1, 0);
  interrupts.bind(7, 0);
  host.signal(7);
  t.deepEqual(host.take(), ['intx true']);
  t.is(new Cpu(pci).bar(0, 0x1000, 1), 5);
});

test('a function reset forgets masks, messages and pending bits, and lowers the line', (t) => {
  const { cpu, setControl, interrupts, host, function: pci } = msixSetup();
  setControl(0x8000);
  program(cpu, 0, 0xfee00000, 1);
  cpu.setBar(1, 12, 4, 1);
  interrupts.raise(1, 0);
  setControl(0);
  t.deepEqual(host.take(), ['intx true']);
  pci.reset('conventional');
  t.deepEqual(host.take(), ['intx false']);
  t.is(cpu.bar(1, 0, 4), 0);
  t.is(cpu.bar(1, 12, 4), 1);
  t.is(cpu.bar(1, 0x8000, 4), 0);
});
