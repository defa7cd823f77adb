import test from 'ava';
import {
  DEVICE_FEATURE_SELECT,
  DEVICE_FEATURE,
  DRIVER_FEATURE_SELECT,
  DRIVER_FEATURE,
  CONFIG_MSIX_VECTOR,
  NUM_QUEUES,
  CONFIG_GENERATION,
  QUEUE_SELECT,
  QUEUE_SIZE,
  QUEUE_MSIX_VECTOR,
  QUEUE_ENABLE,
  QUEUE_NOTIFY_OFF,
  QUEUE_DESC,
  QUEUE_DRIVER,
  QUEUE_DEVICE,
  QUEUE_RESET,
  ISR,
  NOTIFY,
  driver,
  enableMsix,
} from './driver.js';
import { Cpu, FakeDevice, setup } from './support.js';

test('a driver that does everything right brings the device up', (t) => {
  const d = driver();
  const { cpu } = d;
  d.setStatus(0);
  t.is(d.status(), 0);
  d.setStatus(1);
  d.setStatus(3);
  cpu.setBar(0, DEVICE_FEATURE_SELECT, 4, 0);
  t.is(cpu.bar(0, DEVICE_FEATURE, 4), 0x20000001);
  cpu.setBar(0, DEVICE_FEATURE_SELECT, 4, 1);
  t.is(cpu.bar(0, DEVICE_FEATURE, 4), 0x103);
  d.writeFeatures(0x20000000, 0x101);
  d.setStatus(11);
  t.is(d.status(), 11);
  t.is(cpu.bar(0, NUM_QUEUES, 2), 2);
  cpu.setBar(0, QUEUE_SELECT, 2, 1);
  t.is(cpu.bar(0, QUEUE_SIZE, 2), 128);
  t.is(cpu.bar(0, QUEUE_NOTIFY_OFF, 2), 1);
  t.is(cpu.bar(0, QUEUE_ENABLE, 2), 0);
  d.setupQueue(0, 0x10000);
  d.setupQueue(1, 0x1_2345_6000);
  t.is(cpu.bar(0, QUEUE_ENABLE, 2), 1);
  d.setStatus(15);
  t.deepEqual(d.device.take(), [
    'reset',
    'acceptFeatures 10120000000',
    'enableQueue 0',
    'enableQueue 1',
    'start',
  ]);
  t.deepEqual(d.device.queues[1], {
    index: 1,
    size: 64,
    descriptorArea: 0x1_2345_6000,
    driverArea: 0x1_2345_7000,
    deviceArea: 0x1_2345_8000,
  });
  t.deepEqual(d.log.lines, []);
});

test('feature words above 1 read as zero and keep nothing', (t) => {
  const { cpu } = driver();
  for (const word of [2, 3, 0xffffffff]) {
    cpu.setBar(0, DEVICE_FEATURE_SELECT, 4, word);
    t.is(cpu.bar(0, DEVICE_FEATURE, 4), 0);
    cpu.setBar(0, DRIVER_FEATURE_SELECT, 4, word);
    cpu.setBar(0, DRIVER_FEATURE, 4, 0xffffffff);
    t.is(cpu.bar(0, DRIVER_FEATURE, 4), 0);
  }
  cpu.setBar(0, DRIVER_FEATURE_SELECT, 4, 1);
  t.is(cpu.bar(0, DRIVER_FEATURE, 4), 0);
});

for (const [what, low, high, accept] of [
  ['a bit that was not offered', 2, 1, true],
  ['no VIRTIO_F_VERSION_1', 1, 0, true],
  ['what the device does not accept', 0, 1, false],
] as const) {
  test(`FEATURES_OK is refused for ${what}`, (t) => {
    const d = driver();
    d.device.accept = accept;
    d.setStatus(3);
    d.writeFeatures(low, high);
    d.setStatus(11);
    t.is(d.status(), 3);
    t.true(d.log.lines.length > 0);
    d.setStatus(15);
    t.is(d.status(), 3);
    t.false(d.device.take().includes('start'));
  });
}

test('features are final after FEATURES_OK', (t) => {
  const d = driver();
  d.negotiate();
  d.writeFeatures(1, 0);
  t.is(d.cpu.bar(0, DRIVER_FEATURE, 4), 0x101);
  t.is(d.log.lines.length, 2);
});

test('msix vectors read back as NO_VECTOR when they cannot be had', (t) => {
  const { cpu } = driver();
  for (const field of [CONFIG_MSIX_VECTOR, QUEUE_MSIX_VECTOR]) {
    t.is(cpu.bar(0, field, 2), 0xffff);
    cpu.setBar(0, field, 2, 2);
    t.is(cpu.bar(0, field, 2), 2);
    cpu.setBar(0, field, 2, 3);
    t.is(cpu.bar(0, field, 2), 0xffff);
  }
  const none = new Cpu(setup({ vectors: 0 }).function);
  none.setBar(0, CONFIG_MSIX_VECTOR, 2, 0);
  t.is(none.bar(0, CONFIG_MSIX_VECTOR, 2), 0xffff);
});

test('each queue has its own registers; one that does not exist has size 0', (t) => {
  const { cpu } = driver();
  cpu.setBar(0, QUEUE_DESC, 4, 0x1000);
  cpu.setBar(0, QUEUE_SELECT, 2, 1);
  t.is(cpu.bar(0, QUEUE_DESC, 4), 0);
  cpu.setBar(0, QUEUE_SELECT, 2, 2);
  t.is(cpu.bar(0, QUEUE_SIZE, 2), 0);
  for (const field of [QUEUE_SIZE, QUEUE_MSIX_VECTOR, QUEUE_ENABLE, QUEUE_RESET]) {
    cpu.setBar(0, field, 2, 1);
  }
  cpu.setBar(0, QUEUE_DESC, 4, 0x1000);
  t.is(cpu.bar(0, QUEUE_DESC, 4), 0);
  t.is(cpu.bar(0, QUEUE_MSIX_VECTOR, 2), 0xffff);
  cpu.setBar(0, QUEUE_SELECT, 2, 0);
  t.is(cpu.bar(0, QUEUE_DESC, 4), 0x1000);
});

test('queue sizes: powers of two up to the largest', (t) => {
  const { cpu } = driver();
  for (const [size, expected] of [
    [64, 64],
    [63, 64],
    [0, 64],
    [512, 64],
    [256, 256],
    [1, 1],
  ] as const) {
    cpu.setBar(0, QUEUE_SIZE, 2, size);
    t.is(cpu.bar(0, QUEUE_SIZE, 2), expected);
  }
});

test('64-bit addresses may be written in one piece, in halves or byte by byte', (t) => {
  const d = driver();
  d.negotiate();
  const address = Buffer.from('0010325476000000', 'hex');
  d.function.barWrite(0, QUEUE_DESC, address);
  address.forEach((byte, i) => d.cpu.setBar(0, QUEUE_DRIVER + i, 1, byte));
  d.function.barWrite(0, QUEUE_DEVICE, address.subarray(0, 4));
  d.function.barWrite(0, QUEUE_DEVICE + 4, address.subarray(4));
  d.cpu.setBar(0, QUEUE_ENABLE, 2, 1);
  t.like(d.device.queues[0], {
    descriptorArea: 0x76_5432_1000,
    driverArea: 0x76_5432_1000,
    deviceArea: 0x76_5432_1000,
  });
});

test('an enabled queue keeps its addresses and size', (t) => {
  const d = driver();
  d.negotiate();
  d.setupQueue(0, 0x10000);
  d.device.take();
  d.cpu.setBar(0, QUEUE_DESC, 4, 0x5000);
  d.cpu.setBar(0, QUEUE_SIZE, 2, 8);
  d.cpu.setBar(0, QUEUE_ENABLE, 2, 0);
  d.cpu.setBar(0, QUEUE_ENABLE, 2, 1);
  t.is(d.cpu.bar(0, QUEUE_DESC, 4), 0x10000);
  t.is(d.cpu.bar(0, QUEUE_SIZE, 2), 64);
  t.is(d.cpu.bar(0, QUEUE_ENABLE, 2), 1);
  t.deepEqual(d.device.take(), []);
});

test('queue_enable before FEATURES_OK is ignored', (t) => {
  const d = driver();
  d.setStatus(3);
  d.setupQueue(0, 0x10000);
  t.is(d.cpu.bar(0, QUEUE_ENABLE, 2), 0);
  t.is(d.status(), 3);
});

for (const [what, field, value] of [
  ['descriptor table not aligned to 16', QUEUE_DESC, 0x10008],
  ['available ring not aligned to 2', QUEUE_DRIVER, 0x10001],
  ['used ring not aligned to 4', QUEUE_DEVICE, 0x10002],
  ['address of 2^53 and more', QUEUE_DEVICE + 4, 0x200000],
  ['all ones', QUEUE_DESC + 4, 0xffffffff],
] as const) {
  test(`rings that cannot be need a reset: ${what}`, (t) => {
    const d = driver();
    d.negotiate();
    d.cpu.setBar(0, field, 4, value);
    d.cpu.setBar(0, QUEUE_ENABLE, 2, 1);
    t.is(d.cpu.bar(0, QUEUE_ENABLE, 2), 0);
    t.is(d.status(), 11 | 64);
    d.setStatus(15);
    t.is(d.status(), 11 | 64);
    t.deepEqual(d.device.queues, []);
  });
}

test('a notification kicks the queue at whose place it was written', (t) => {
  const d = driver();
  d.cpu.setBar(0, NOTIFY, 2, 0);
  t.deepEqual(d.device.take(), [], 'not before DRIVER_OK');
  d.bringUp();
  d.cpu.setBar(0, NOTIFY, 2, 0);
  d.cpu.setBar(0, NOTIFY + 4, 4, 1);
  d.cpu.setBar(0, NOTIFY + 8, 2, 2);
  d.cpu.setBar(0, NOTIFY + 6, 2, 1);
  t.deepEqual(d.device.take(), ['kick 0', 'kick 1']);
  d.function.barWrite(0, NOTIFY, Buffer.alloc(8));
  t.deepEqual(d.device.take(), ['kick 0', 'kick 1']);
  t.is(d.cpu.bar(0, NOTIFY, 4), 0);
});

test('used-buffer notifications go to the vector of the queue, with the ISR bit', (t) => {
  const d = driver();
  enableMsix(d);
  d.negotiate();
  d.setupQueue(0, 0x10000);
  d.cpu.setBar(0, QUEUE_MSIX_VECTOR, 2, 1);
  d.cpu.setBar(0, CONFIG_MSIX_VECTOR, 2, 0);
  d.device.port?.notifyQueue(0);
  t.deepEqual(d.host.take(), [], 'not before DRIVER_OK');
  d.setStatus(15);
  d.device.port?.notifyQueue(0);
  d.device.port?.notifyQueue(1);
  d.device.port?.notifyQueue(99);
  d.device.port?.notifyConfig();
  t.deepEqual(d.host.take(), ['msix 1 fee00000 41', 'msix 0 fee00000 40']);
  t.is(d.cpu.bar(0, ISR, 1), 3);
});

test('without MSI-X notifications are INTx', (t) => {
  const d = driver();
  d.bringUp();
  d.device.port?.notifyQueue(1);
  t.deepEqual(d.host.take(), ['intx true']);
  t.is(d.cpu.bar(0, ISR, 1), 1);
  d.device.port?.notifyConfig();
  t.is(d.cpu.bar(0, ISR, 1), 2);
  t.deepEqual(d.host.take(), ['intx false', 'intx true', 'intx false']);
});

test('config_generation changes with the configuration, and wraps', (t) => {
  const d = driver();
  const generation = (): number => d.cpu.bar(0, CONFIG_GENERATION, 1);
  const first = generation();
  d.device.port?.notifyConfig();
  t.is(generation(), (first + 1) & 0xff);
  for (let i = 0; i < 255; i++) d.device.port?.notifyConfig();
  t.is(generation(), first);
  d.cpu.setBar(0, 0x2000, 4, 1);
  t.is(generation(), first, "the driver's own writes do not count");
});

test('the device configuration is passed through, and ends where the device says', (t) => {
  const d = driver();
  d.device.config.bytes.write('0123456789abcdefghijklmn', 'latin1');
  const target = Buffer.alloc(32, 0xee);
  d.function.barRead(0, 0x2000, target);
  t.is(target.toString('latin1'), '0123456789abcdefghijklmn' + '\0'.repeat(8));
});

test('a hostile driver does not fill the log', (t) => {
  const d = driver();
  for (let i = 0; i < 1000; i++) d.setStatus(8);
  t.true(d.log.lines.length > 0);
  t.true(d.log.lines.length <= 32);
});

test('devices that virtio-pci cannot carry are refused', (t) => {
  for (const features of [0n, (1n << 32n) | (1n << 38n), (1n << 32n) | (1n << 64n)]) {
    const device = new FakeDevice();
    device.features = features;
    t.throws(() => setup({ device }), { code: 'BAD_FEATURES' });
  }
  for (const sizes of [[3], [65536], [-1], [1.5]]) {
    const device = new FakeDevice();
    device.queueMaxSizes = sizes;
    t.throws(() => setup({ device }), { code: 'BAD_QUEUES' });
  }
});
