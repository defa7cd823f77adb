import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SystemPaths } from '../../src/guest/sysfs-function.js';

/** A PCI function that is to be there. */
export interface Made {
  readonly driver?: string;
  readonly group?: string;
  readonly groupType?: string;
  readonly id?: string;
  /** The name of its UIO device. */
  readonly uio?: string;
  /** The name of its VFIO device file. */
  readonly cdev?: string;
}

/** A made-up /sys and /dev, gone with the test. */
export function makeSysfs(
  t: { teardown(body: () => void): void },
  functions: Record<string, Made>,
): SystemPaths {
  const root = mkdtempSync(join(tmpdir(), 'vvu-sysfs-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const paths: SystemPaths = { sys: join(root, 'sys'), dev: join(root, 'dev') };
  mkdirSync(join(paths.sys, 'bus/pci/devices'), { recursive: true });
  mkdirSync(paths.dev);
  for (const [address, made] of Object.entries(functions)) {
    const at = join(paths.sys, 'bus/pci/devices', address);
    mkdirSync(at);
    const file = (name: string, text: string): void => writeFileSync(join(at, name), `${text}\n`);
    file('vendor', '0x1af4');
    file('device', made.id ?? '0x1058');
    file('driver_override', '(null)');
    file('config', '\0'.repeat(255));
    file(
      'resource',
      [
        '0x00000000febf0000 0x00000000febf3fff 0x0000000000040200',
        '0x000000000000c000 0x000000000000c03f 0x0000000000040101',
        '0x0000000000000000 0x0000000000000000 0x0000000000000000',
        '0x0000000000000000 0x0000000000000000 0x0000000000000000',
        '0x0000000800000000 0x000000080fffffff 0x000000000014220c',
        '0x0000000000000000 0x0000000000000000 0x0000000000000000',
        '0x00000000fff00000 0x00000000ffffffff 0x0000000000000000',
      ].join('\n'),
    );
    if (made.driver !== undefined) {
      const driver = join(paths.sys, 'bus/pci/drivers', made.driver);
      mkdirSync(driver, { recursive: true });
      symlinkSync(driver, join(at, 'driver'));
    }
    if (made.uio !== undefined) mkdirSync(join(at, 'uio', made.uio), { recursive: true });
    if (made.cdev !== undefined) mkdirSync(join(at, 'vfio-dev', made.cdev), { recursive: true });
    if (made.group !== undefined) {
      const group = join(paths.sys, 'kernel/iommu_groups', made.group);
      mkdirSync(group, { recursive: true });
      writeFileSync(join(group, 'type'), `${made.groupType ?? 'DMA-FQ'}\n`);
      symlinkSync(group, join(at, 'iommu_group'));
    }
  }
  return paths;
}
