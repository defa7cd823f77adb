import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { runCommand } from './command.js';
import type { GuestImage } from './guest-image.js';
import { nodeGuestImage } from './node-guest-image.js';
import { DPDK_PACKAGES, requirePackages } from './packages.js';
import { withPrograms } from './program-archive.js';

/** Memory of an appliance: twice the archive while it is unpacked, then Node.js and a backend. */
export const APPLIANCE_MEMORY = '1280M';
export const TESTPMD = '/usr/bin/dpdk-testpmd';
export const STORAGE_DAEMON = '/usr/bin/qemu-storage-daemon';
export const VIRTIOFSD = '/usr/lib/qemu/virtiofsd';

const PACKAGES = [...DPDK_PACKAGES, 'qemu-system-common'];
const PROGRAMS = [TESTPMD, STORAGE_DAEMON, VIRTIOFSD];
/** DPDK loads every driver of its folder; these are what a vhost port needs. */
const DRIVER_FOLDERS = '/usr/lib/x86_64-linux-gnu/dpdk';
const DRIVERS = ['librte_bus_pci', 'librte_bus_vdev', 'librte_mempool_ring', 'librte_net_vhost'];

/**
 * The guest of `nodeGuestImage` with Debian's vhost-user backends, unmodified: DPDK's testpmd with
 * its vhost PMD, qemu-storage-daemon and virtiofsd.
 */
export async function applianceImage(): Promise<GuestImage> {
  await requirePackages(PACKAGES);
  const image = await nodeGuestImage();
  return withPrograms('guest-appliance', image, [...PROGRAMS, ...(await drivers())]);
}

async function drivers(): Promise<string[]> {
  const found = await runCommand('sh', ['-c', `ls -d ${DRIVER_FOLDERS}/pmds-*`]);
  const folder = found.split('\n')[0] ?? '';
  const wanted = DRIVERS.map((name) => join(folder, `${name}.so`));
  for (const file of wanted) {
    if (!existsSync(file)) throw new Error(`the dpdk package has no ${basename(file)}`);
  }
  // The folder has each driver under several names, of which DPDK loads those that end in .so.
  return wanted;
}
