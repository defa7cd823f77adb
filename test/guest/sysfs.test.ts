import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { bindDriver } from '../../src/guest/bind.js';
import { findByUuid, openGuestDevice } from '../../src/guest/find-device.js';
import { longestRun } from '../../src/guest/physical-pool.js';
import { SysfsFunction, parseAddress } from '../../src/guest/sysfs-function.js';
import { VvuError } from '../../src/errors.js';
import { makeSysfs } from './made-sysfs.js';

// Everything up to the first access of hardware, on a made-up sysfs.

const A = '0000:00:05.0';
const B = '0000:00:06.0';
const UUID = '6a1b2c3d-0011-2233-4455-66778899aabb';

test('addresses come with and without a domain, and nothing else is one', (t) => {
  t.is(parseAddress('0000:00:05.0'), A);
  t.is(parseAddress('00:05.0'), A);
  t.is(parseAddress('10000:E1:1F.7'), '10000:e1:1f.7');
  for (const bad of ['', '0:05.0', '00:05.8', '00:25.0', '../../x', '00:05.0/..', '00:05.0\n']) {
    t.is(parseAddress(bad), undefined, JSON.stringify(bad));
  }
});

test('a function tells its resources, driver and IOMMU', (t) => {
  const paths = makeSysfs(t, {
    [A]: { driver: 'vfio-pci', group: '7' },
    [B]: { group: '8', groupType: 'identity' },
  });
  const device = SysfsFunction.open(A, paths);
  t.is(device.vendor, 0x1af4);
  t.is(device.device, 0x1058);
  t.is(device.driver, 'vfio-pci');
  t.is(device.iommuGroup, '7');
  t.true(device.translated);
  t.is(device.uio, undefined);
  t.is(device.vfioDevice, undefined);
  t.deepEqual(
    device.resources.map(({ size, memory, prefetchable }) => [size, memory, prefetchable]),
    [
      [0x4000, true, false],
      [0x40, false, false],
      [0, false, false],
      [0, false, false],
      [0x10000000, true, true],
      [0, false, false],
    ],
  );
  const other = SysfsFunction.open(B, paths);
  t.is(other.driver, undefined);
  t.false(other.translated);
  t.deepEqual(
    SysfsFunction.list(paths).map(({ address }) => address),
    [A, B],
  );
  t.throws(() => SysfsFunction.open('0000:00:07.0', paths), { code: 'NO_DEVICE' });
  t.deepEqual(SysfsFunction.list({ sys: '/nonexistent', dev: '/dev' }), []);
});

test('a wrong binding is one line that says what to run', (t) => {
  const paths = makeSysfs(t, {
    [A]: { driver: 'virtio-pci' },
    [B]: { driver: 'virtio-pci', group: '3' },
  });
  const message = (name: string): string =>
    t.throws(() => openGuestDevice(name, { paths }), { instanceOf: VvuError, code: 'WRONG_DRIVER' })
      .message;
  t.regex(message(A), /^0000:00:05\.0 .*virtio-pci: run again with --bind uio_pci_generic/);
  t.regex(message(B), /--bind vfio-pci/);
  t.notRegex(message(A), /\n/);
  t.throws(() => openGuestDevice('nonsense', { paths }), { code: 'BAD_DEVICE' });
  t.throws(() => openGuestDevice('00:09.0', { paths }), { code: 'NO_DEVICE' });
});

test('what VFIO lacks is one line, too', (t) => {
  const paths = makeSysfs(t, {
    [A]: { driver: 'vfio-pci' },
    [B]: { driver: 'vfio-pci', group: '3' },
  });
  t.throws(() => openGuestDevice(A, { paths }), { code: 'NO_IOMMU', message: /--bind uio_pci/ });
  t.throws(() => openGuestDevice(B, { paths }), { code: 'VFIO_OPEN', message: /not loaded/ });
});

test('a uuid that nobody has names the functions that could not be asked', (t) => {
  const paths = makeSysfs(t, {
    [A]: { driver: 'virtio-pci' },
    [B]: { driver: 'nvme', id: '0x0010' },
  });
  const error = t.throws(() => findByUuid(UUID, { paths }), { code: 'NO_DEVICE' });
  t.regex(error.message, /no PCI function has the uuid .*0000:00:05\.0 is held by/);
  t.notRegex(error.message, /nvme/, 'functions of other kinds are not ours to ask');
});

test('binding fails with the function as it was', (t) => {
  const paths = makeSysfs(t, { [A]: {} });
  mkdirSync(join(paths.sys, 'bus/pci/drivers/vfio-pci'), { recursive: true });
  writeFileSync(join(paths.sys, 'bus/pci/drivers_probe'), '');
  const device = SysfsFunction.open(A, paths);
  const error = t.throws(() => bindDriver(device, 'vfio-pci'), { code: 'BIND' });
  t.regex(error.message, /has no IOMMU in front of it, use uio_pci_generic/);
  t.is(device.driver, undefined);
  t.is(device.read('driver_override'), '');
});

test('the longest run of physical pages is found', (t) => {
  const pages = (...numbers: number[]): Float64Array =>
    Float64Array.from(numbers, (number) => number * 4096);
  t.deepEqual(longestRun(pages(5)), { first: 0, pages: 1, address: 5 * 4096 });
  t.deepEqual(longestRun(pages(9, 3, 4, 5, 7, 8)), { first: 1, pages: 3, address: 3 * 4096 });
  t.deepEqual(longestRun(pages(5, 4, 3)), { first: 0, pages: 1, address: 5 * 4096 });
  t.deepEqual(longestRun(pages(1, 2, 10, 11, 12)), { first: 2, pages: 3, address: 10 * 4096 });
  t.is(longestRun(new Float64Array()).pages, 0);
});
