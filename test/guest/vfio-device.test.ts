import { mkdirSync, readlinkSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import test from 'ava';
import { SysfsFunction, type SystemPaths } from '../../src/guest/sysfs-function.js';
import { openVfioDevice } from '../../src/guest/vfio-device.js';
import { native as realNative, type Native, type NativeMemory } from '../../src/native.js';
import { makeSysfs } from './made-sysfs.js';

/*
 * Which of VFIO's two interfaces is taken, and with which files, on a made-up /sys and /dev whose
 * files are plain ones; the system calls are recorded.
 */

const A = '0000:00:05.0';
const MEMORY = {} as NativeMemory;

/** The name of an open file. */
function nameOf(fd: number): string {
  return basename(readlinkSync(`/proc/self/fd/${fd}`));
}

class Calls {
  readonly made: string[] = [];
  failing: string | undefined;

  constructor(private readonly paths: SystemPaths) {}

  get native(): Native {
    const call = (name: string, ...of: readonly (string | number)[]): void => {
      this.made.push([name, ...of].join(' '));
      if (name === this.failing) throw Object.assign(new Error(name), { code: 'EINVAL' });
    };
    const open = (name: string): number =>
      realNative.openFile(join(this.paths.dev, name), { writable: true });
    return {
      ...realNative,
      iommufdAllocate: (iommufd) => {
        call('allocate', nameOf(iommufd));
        return 7;
      },
      iommufdAttach: (fd, iommufd, ioas) => call('attach', nameOf(fd), nameOf(iommufd), ioas),
      iommufdMap: (iommufd, ioas, _memory, iova) => call('map', nameOf(iommufd), ioas, iova),
      iommufdUnmap: (iommufd, ioas, iova, size) => call('unmap', nameOf(iommufd), ioas, iova, size),
      vfioContainer: (path) => {
        call('container', basename(path));
        return open('vfio/vfio');
      },
      vfioGroup: (container, path) => {
        call('group', nameOf(container), basename(path));
        return open('vfio/3');
      },
      vfioGroupDevice: (group, name) => {
        call('device', nameOf(group), name);
        return open('device');
      },
      vfioMapDma: (container, _memory, iova) => call('map', nameOf(container), iova),
      vfioUnmapDma: (container, iova, size) => call('unmap', nameOf(container), iova, size),
    };
  }
}

/** A function in group 3 that is bound to vfio-pci, and these files below /dev. */
function make(
  t: { teardown(body: () => void): void },
  files: readonly string[],
): { device: SysfsFunction; calls: Calls } {
  const paths = makeSysfs(t, { [A]: { driver: 'vfio-pci', group: '3', cdev: 'vfio0' } });
  mkdirSync(join(paths.dev, 'vfio/devices'), { recursive: true });
  for (const file of [...files, 'device']) writeFileSync(join(paths.dev, file), '');
  return { device: SysfsFunction.open(A, paths), calls: new Calls(paths) };
}

const openFds = (): number => readdirSync('/proc/self/fd').length;
const GROUP = ['vfio/vfio', 'vfio/3'];
const CDEV = 'vfio/devices/vfio0';

test('iommufd is taken where both of its files are', (t) => {
  const { device, calls } = make(t, [...GROUP, CDEV, 'iommu']);
  const before = openFds();
  const opened = openVfioDevice(calls.native, device);
  t.is(opened.interface, 'iommufd');
  t.is(nameOf(opened.fd), 'vfio0');
  opened.mapDma(MEMORY, 0x1000);
  opened.unmapDma(0x1000, 0x2000);
  t.deepEqual(calls.made, [
    'allocate iommu',
    'attach vfio0 iommu 7',
    'map iommu 7 4096',
    'unmap iommu 7 4096 8192',
  ]);
  opened.close();
  t.is(openFds(), before);
});

for (const [what, files] of [
  ['the kernel has no iommufd', [...GROUP, CDEV]],
  ['the device has no file of its own', [...GROUP, 'iommu']],
] as const) {
  test(`container and group are taken where ${what}`, (t) => {
    const { device, calls } = make(t, files);
    const before = openFds();
    const opened = openVfioDevice(calls.native, device);
    t.is(opened.interface, 'container');
    opened.mapDma(MEMORY, 0x1000);
    opened.unmapDma(0x1000, 0x2000);
    t.deepEqual(calls.made, [
      'container vfio',
      'group vfio 3',
      `device 3 ${A}`,
      'map vfio 4096',
      'unmap vfio 4096 8192',
    ]);
    opened.close();
    t.is(openFds(), before);
  });
}

for (const [failing, files] of [
  ['attach', [CDEV, 'iommu']],
  ['device', GROUP],
] as const) {
  test(`nothing stays open after a failure of ${failing}`, (t) => {
    const { device, calls } = make(t, files);
    calls.failing = failing;
    const before = openFds();
    t.throws(() => openVfioDevice(calls.native, device), {
      code: 'VFIO_OPEN',
      message: /cannot open 0000:00:05\.0: VFIO refuses it/,
    });
    t.is(openFds(), before);
  });
}
