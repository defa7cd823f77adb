import test from 'ava';
import { VvuDriver } from '../../src/guest/driver.js';
import { FakeDevice } from './fake-device.js';

/** GET_FEATURES: request 1, version 1, no payload (vhost-user, "Header"). */
const GET_FEATURES = Buffer.from('010000000100000000000000', 'hex');

function open(device = new FakeDevice()): { device: FakeDevice; driver: VvuDriver; log: string[] } {
  const driver = new VvuDriver(device, { statusIntervalMs: 0 });
  const log: string[] = [];
  driver.on('connected', () => log.push('connected'));
  driver.on('disconnected', () => log.push('disconnected'));
  driver.on('message', (bytes) => log.push(`message ${bytes.toString('hex')}`));
  return { device, driver, log };
}

test('the device is found through its capabilities and brought up', (t) => {
  const { device, driver } = open();
  t.is(device.deviceStatus, 1 | 2 | 4 | 8);
  t.is(device.config.readUInt16LE(4) & 6, 6, 'memory space and bus master');
  t.is(driver.maxVhostQueues, 4);
  t.is(driver.uuid.toString('hex'), '00112233445566778899aabbccddeeff');
  t.is(driver.window.size, 0x10_0000);
  driver.poll();
  t.is(device.linkStatus, 0, 'not up before start');
  driver.start();
  t.is(device.linkStatus, 1);
});

test('messages and replies pass in order', (t) => {
  const { device, driver, log } = open();
  driver.start();
  driver.poll();
  device.connect();
  t.true(device.toDriver(GET_FEATURES));
  driver.poll();
  t.deepEqual(log, ['connected', `message ${GET_FEATURES.toString('hex')}`]);
  t.true(driver.reply(Buffer.from('aa', 'hex')));
  t.true(driver.reply(Buffer.from('bbcc', 'hex')));
  t.deepEqual(
    device.fromDriver().map((bytes) => bytes.toString('hex')),
    ['aa', 'bbcc'],
  );
});

test('a message that overtakes the status change is not lost', (t) => {
  const device = new FakeDevice();
  const driver = new VvuDriver(device, { statusIntervalMs: 1_000_000 });
  const log: string[] = [];
  driver.on('connected', () => log.push('connected'));
  driver.on('message', () => log.push('message'));
  driver.start();
  driver.poll();
  device.connect();
  device.toDriver(GET_FEATURES);
  driver.poll();
  t.deepEqual(log, ['connected', 'message']);
});

test('an idle poll does not read registers within the interval', (t) => {
  const device = new FakeDevice();
  const driver = new VvuDriver(device, { statusIntervalMs: 1_000_000 });
  driver.start();
  driver.poll();
  const reads = device.registerReads;
  for (let i = 0; i < 100; i++) t.is(driver.poll(), 0);
  t.is(device.registerReads, reads);
  driver.expectChange();
  driver.poll();
  t.true(device.registerReads > reads);
});

test('after a disconnect stale messages are dropped and the backend comes up again', (t) => {
  const { device, driver, log } = open();
  driver.start();
  driver.poll();
  device.connect();
  driver.poll();
  device.toDriver(GET_FEATURES);
  device.disconnect();
  driver.poll();
  t.deepEqual(log, ['connected', 'disconnected']);
  t.is(device.linkStatus, 1);
  t.true(driver.reply(GET_FEATURES), 'dropped, not refused');
  t.deepEqual(device.fromDriver(), []);
  device.connect();
  driver.poll();
  t.deepEqual(log, ['connected', 'disconnected', 'connected']);
});

test('the rxq never runs dry and txq has backpressure', (t) => {
  const { device, driver, log } = open();
  driver.start();
  driver.poll();
  device.connect();
  driver.poll();
  for (let i = 0; i < 500; i++) {
    t.true(device.toDriver(GET_FEATURES));
    driver.poll();
  }
  t.is(log.length, 501);
  let sent = 0;
  while (driver.reply(GET_FEATURES)) sent++;
  t.is(sent, 64);
  device.toDriver(GET_FEATURES);
  driver.poll();
  t.is(log.length, 501, 'no message is taken while there is no room for its reply');
  t.is(device.fromDriver().length, 64);
  driver.poll();
  t.is(log.length, 502);
});

test('poll is bounded', (t) => {
  const { device, driver, log } = open();
  driver.start();
  driver.poll();
  device.connect();
  driver.poll();
  for (let i = 0; i < 40; i++) device.toDriver(GET_FEATURES);
  t.is(driver.poll(10), 10);
  t.is(log.length, 11);
});

test('dropFrontend takes the backend down and up', (t) => {
  const { device, driver, log } = open();
  driver.start();
  driver.poll();
  device.connect();
  driver.poll();
  driver.dropFrontend('test');
  t.is(device.linkStatus, 1);
  t.deepEqual(log, ['connected', 'disconnected']);
});

test('NEEDS_RESET and broken rings lead to a reset, and the driver goes on', (t) => {
  const { device, driver, log } = open();
  driver.start();
  driver.poll();
  device.connect();
  driver.poll();
  const resets = device.resets;
  device.deviceStatus |= 0x40;
  for (let i = 0; i < 16; i++) driver.poll();
  t.true(device.resets > resets);
  t.is(device.deviceStatus, 15);
  t.is(device.linkStatus, 1);
  device.connect();
  driver.poll();
  // used.idx jumps by more than there are buffers.
  device.dma.storeU16(device.usedRing(0) + 2, 0x8000);
  driver.poll();
  t.deepEqual(log, ['connected', 'disconnected', 'connected', 'disconnected']);
  device.connect();
  driver.poll();
  device.toDriver(GET_FEATURES);
  driver.poll();
  t.is(log.at(-1), `message ${GET_FEATURES.toString('hex')}`);
});

test('a device that drops the frontend to ask for a reset gets it at once', (t) => {
  const { device, driver } = open();
  driver.start();
  driver.poll();
  device.connect();
  driver.poll();
  const resets = device.resets;
  device.deviceStatus |= 0x40;
  device.disconnect();
  driver.poll();
  t.true(device.resets > resets);
  t.is(device.deviceStatus, 15);
});

test('doorbells and kick vectors', (t) => {
  const { device, driver } = open();
  driver.doorbell(0).ring();
  driver.doorbell(3).ring();
  driver.logDoorbell().ring();
  t.deepEqual(device.rung, [0, 3, 4]);
  t.throws(() => driver.doorbell(5), { code: 'DOORBELL_INDEX' });
  t.throws(() => driver.doorbell(-1), { code: 'DOORBELL_INDEX' });
  t.is(driver.kick(1)?.eventfd, 1002);
  t.is(device.kickVectors.get(1), 2);
  t.is(driver.kick(3), undefined, 'no vector left: polled');
});

/** No capabilities 6, 7 and 8, and a configuration of status and max_vhost_queues alone. */
class RfcDevice extends FakeDevice {
  readonly opened: number[][] = [];
  readonly stores: string[] = [];

  constructor() {
    super();
    this.config.writeUInt8(0, 0x78 + 1);
    this.config.writeUInt32LE(8, 0x78 + 12);
  }

  override openWindow(...place: number[]) {
    this.opened.push(place);
    return super.openWindow();
  }

  override barWrite(bar: number, offset: number, data: Uint8Array): void {
    if (bar === 2) this.stores.push(`${offset}: ${Buffer.from(data).toString('hex')}`);
    else super.barWrite(bar, offset, data);
  }
}

test('a device of the RFC has its doorbells and window where the RFC says', (t) => {
  const device = new RfcDevice();
  const driver = new VvuDriver(device);
  // 4 vrings: 5 doorbells of 2 bytes, then the next page of an 8 KiB BAR.
  t.deepEqual(device.opened, [[2, 4096, 4096]]);
  driver.doorbell(1).ring();
  driver.logDoorbell().ring();
  t.deepEqual(device.stores, ['2: 0100', '8: 0400']);
  t.is(driver.errDoorbell(0), undefined);
  t.throws(() => driver.doorbell(5), { code: 'DOORBELL_INDEX' });
  t.is(driver.kick(0), undefined, 'no notifications: polled');
  t.true(driver.uuid.equals(Buffer.alloc(16)));
});

test('with interrupts, vector 0 serves configuration and queues', (t) => {
  const device = new FakeDevice();
  const driver = new VvuDriver(device, { interrupts: true });
  t.is(driver.interrupt?.eventfd, 1000);
  t.deepEqual([...device.vectors], [0]);
});

test('close resets the device', (t) => {
  const { device, driver, log } = open();
  driver.start();
  driver.poll();
  device.connect();
  driver.poll();
  driver.close();
  driver.close();
  t.deepEqual(log, ['connected', 'disconnected']);
  t.is(device.deviceStatus, 0);
  t.is(driver.poll(), 0);
});

const unusable: [string, string, (device: FakeDevice) => void][] = [
  ['no capability list', 'NOT_VIRTIO', (device) => device.config.writeUInt16LE(0, 6)],
  [
    'a capability list that loops',
    'PCI_CAPABILITIES',
    (device) => device.config.fill(0x40, 0x41, 0x42),
  ],
  [
    'a capability list in the header',
    'PCI_CAPABILITIES',
    (device) => device.config.fill(0x10, 0x34, 0x35),
  ],
  ['a BAR that does not exist', 'NOT_VIRTIO', (device) => device.config.fill(7, 0x44, 0x45)],
  [
    'a structure outside of its BAR',
    'NOT_VIRTIO',
    (device) => device.config.writeUInt32LE(0x4000, 0x48),
  ],
  ['a legacy device', 'LEGACY_DEVICE', (device) => (device.features = 0n)],
  ['a device that refuses', 'FEATURES_REFUSED', (device) => (device.refuseFeatures = true)],
];

for (const [name, code, change] of unusable) {
  test(`an unusable device: ${name}`, (t) => {
    const device = new FakeDevice();
    change(device);
    t.throws(() => new VvuDriver(device), { code });
  });
}

test('a device that was given up is told so', (t) => {
  const device = new FakeDevice();
  device.features = 0n;
  t.throws(() => new VvuDriver(device));
  t.is(device.deviceStatus & 128, 128);
});
