import { execFileSync } from 'node:child_process';
import { readFileSync, writeSync, openSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { VvuDriver } from '../../src/guest/driver.js';
import { openDevice } from '../../src/guest/open-device.js';
import { openGuestDevice } from '../../src/guest/find-device.js';
import type { IntxInterrupt } from '../../src/guest/pci-access.js';
import { native } from '../../src/native.js';
import { until } from '../support/until.js';
import { FakeDevice } from './fake-device.js';
import { makeSysfs } from './made-sysfs.js';

/** ISR bits (virtio 1.3 §4.1.4.5, and the draft specification's for kicks). */
const [QUEUE, CONFIG, KICK] = [1, 2, 4];
const INTX_DISABLE = 1 << 10;

/** An interrupt that is masked by itself when it fires, as uio_pci_generic does. */
class FakeIntx implements IntxInterrupt {
  readonly eventfd = native.createEventFd();
  readonly calls: string[] = [];

  unmask(): void {
    this.calls.push('unmask');
  }

  mask(): void {
    this.calls.push('mask');
  }
}

function open(t: { teardown(body: () => void): void }): {
  device: FakeDevice;
  driver: VvuDriver;
  intx: FakeIntx;
  events: string[];
} {
  const device = new FakeDevice();
  const intx = new FakeIntx();
  t.teardown(() => native.closeFd(intx.eventfd));
  device.vectorCount = 0;
  device.intx = intx;
  const driver = new VvuDriver(device, { interrupts: true, statusIntervalMs: 1_000_000 });
  const events: string[] = [];
  driver.on('connected', () => events.push('connected'));
  driver.on('message', () => events.push('message'));
  driver.start();
  driver.poll();
  return { device, driver, intx, events };
}

test('the driver takes INTx where there are no vectors, and only if it wants interrupts', (t) => {
  const { driver, intx, device } = open(t);
  t.is(driver.interrupt?.eventfd, intx.eventfd);
  t.deepEqual(intx.calls, ['unmask']);
  driver.close();
  t.deepEqual(intx.calls, ['unmask', 'mask']);
  t.is(new VvuDriver(device).interrupt, undefined);
  t.deepEqual(intx.calls, ['unmask', 'mask'], 'a driver that polls leaves it alone');
});

test('an interrupt is acknowledged by reading the ISR, then unmasked, then acted on', (t) => {
  const { device, driver, intx, events } = open(t);
  intx.calls.splice(0);
  device.connect();
  device.isr = QUEUE | CONFIG;
  t.is(driver.poll(), 0, 'nothing is looked for without an interrupt');
  driver.expectChange();
  driver.poll();
  t.deepEqual(events, ['connected']);
  t.is(device.isr, 0);
  t.deepEqual(intx.calls, ['unmask']);
  driver.poll();
  t.deepEqual(intx.calls, ['unmask'], 'once per interrupt');
});

test('it is acknowledged while the driver is stopped, too', (t) => {
  const { device, driver, intx } = open(t);
  driver.stop('test');
  intx.calls.splice(0);
  device.isr = CONFIG;
  driver.expectChange();
  driver.poll();
  t.is(device.isr, 0);
  t.deepEqual(intx.calls, ['unmask']);
});

test('a kick signals the eventfds of all vrings that asked for one', (t) => {
  const { device, driver } = open(t);
  const [first, second] = [driver.kick(0), driver.kick(1)];
  t.is(driver.kick(0)?.eventfd, first?.eventfd);
  const counts = (): number[] =>
    [first, second].map((kick) => native.readEventFd(kick?.eventfd ?? -1));
  device.isr = QUEUE | CONFIG;
  driver.expectChange();
  driver.poll();
  t.deepEqual(counts(), [0, 0]);
  device.isr = KICK;
  driver.expectChange();
  driver.poll();
  t.deepEqual(counts(), [1, 1]);
  driver.close();
  t.throws(() => native.readEventFd(first?.eventfd ?? -1), { code: 'EBADF' });
});

const A = '0000:00:05.0';
const rootTest = process.getuid?.() === 0 ? test : test.skip;

rootTest(
  'INTx of uio_pci_generic: Interrupt Disable is cleared and set, 4-byte counts signal',
  async (t) => {
    const paths = makeSysfs(t, { [A]: { driver: 'uio_pci_generic', uio: 'uio3' } });
    const uio = join(paths.dev, 'uio3');
    execFileSync('mkfifo', [uio]);
    const access = openGuestDevice(A, { paths, intx: true });
    const { intx } = access;
    if (intx === undefined) throw new Error('no INTx');
    const command = (): number =>
      readFileSync(join(paths.sys, 'bus/pci/devices', A, 'config')).readUInt16LE(4);
    access.configWrite(4, Buffer.from([6, 0]));
    intx.mask();
    t.is(command(), 6 | INTX_DISABLE);
    const kernel = openSync(uio, 'r+');
    writeSync(kernel, Buffer.from([1, 0, 0, 0]));
    await until(() => native.readEventFd(intx.eventfd) === 1, 'the interrupt');
    intx.unmask();
    t.is(command(), 6);
    closeSync(kernel);
    access.close();
    access.close();
    t.throws(() => native.readEventFd(intx.eventfd), { code: 'EBADF' });
  },
);

rootTest('INTx is refused in one line where there is none', async (t) => {
  const paths = makeSysfs(t, {
    [A]: {},
    '0000:00:06.0': { driver: 'vfio-pci', group: '3' },
  });
  t.throws(() => openGuestDevice(A, { paths, intx: true }), {
    code: 'NO_INTX',
    message: /--bind uio_pci_generic/,
  });
  t.throws(() => openGuestDevice('0000:00:06.0', { paths, intx: true }), {
    code: 'NO_INTX',
    message: /is bound to vfio-pci, which has MSI-X: run again without --intx/,
  });
  await t.throwsAsync(openDevice('vfio-user:/nowhere', { paths, intx: true }), { code: 'NO_INTX' });
});
