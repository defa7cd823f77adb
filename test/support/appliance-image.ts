import { existsSync } from 'node:fs';
import { copyFile, mkdir, realpath, rm, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { cached } from './cache.js';
import { runCommand } from './command.js';
import { packInitrd, type GuestImage } from './guest-image.js';
import { BUSYBOX_FILE, guestKernel } from './guest-kernel.js';
import { nodeGuestImage } from './node-guest-image.js';
import { requirePackages } from './packages.js';

/** Memory of an appliance: twice the archive while it is unpacked, then Node.js and a backend. */
export const APPLIANCE_MEMORY = '1280M';
export const TESTPMD = '/usr/bin/dpdk-testpmd';
export const STORAGE_DAEMON = '/usr/bin/qemu-storage-daemon';
export const VIRTIOFSD = '/usr/lib/qemu/virtiofsd';

const PACKAGES = ['dpdk', 'qemu-system-common'];
const PROGRAMS = [TESTPMD, STORAGE_DAEMON, VIRTIOFSD];
/** DPDK loads every driver of its folder; these are what a vhost port needs. */
const DRIVER_FOLDERS = '/usr/lib/x86_64-linux-gnu/dpdk';
const DRIVERS = ['librte_bus_pci', 'librte_bus_vdev', 'librte_mempool_ring', 'librte_net_vhost'];

/**
 * The guest of `nodeGuestImage` with Debian's vhost-user backends, unmodified: DPDK's testpmd with
 * its vhost PMD, qemu-storage-daemon and virtiofsd, each with the libraries that it loads.
 */
export async function applianceImage(): Promise<GuestImage> {
  await requirePackages(PACKAGES);
  const [kernel, image] = await Promise.all([guestKernel(), nodeGuestImage()]);
  const busybox = join(kernel, BUSYBOX_FILE);
  const files = await withLibraries([...PROGRAMS, ...(await drivers())]);
  const states = await Promise.all(
    [...files].map(async (file) => `${file} ${(await stat(file)).size}`),
  );
  const backends = await cached(
    'guest-backends',
    ['linked', busybox, ...states],
    async (directory) => {
      const tree = join(directory, 'tree');
      const copies = new Map<string, string>();
      for (const file of files) {
        await mkdir(join(tree, dirname(file)), { recursive: true });
        // Names of one file stay names of one file, or the loader would load it twice.
        const real = await realpath(file);
        const copy = copies.get(real);
        if (copy === undefined) await copyFile(file, join(tree, file));
        else await symlink(copy, join(tree, file));
        copies.set(real, copy ?? file);
      }
      await packInitrd(busybox, tree, join(directory, 'archive'));
      await rm(tree, { recursive: true });
    },
  );
  const parts = [image.initrd, join(backends, 'archive')];
  const entry = await cached('guest-appliance', parts, async (directory) => {
    await runCommand('sh', ['-c', 'cat "$@" > initrd', 'sh', ...parts], { cwd: directory });
  });
  return { kernel: image.kernel, initrd: join(entry, 'initrd') };
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

/** The files, what they link to, and the names that the loader looks them up by. */
async function withLibraries(files: readonly string[]): Promise<Set<string>> {
  const all = new Set<string>();
  for (const file of files) {
    all.add(file);
    const listed = await runCommand('ldd', [await realpath(file)]);
    for (const [, path = ''] of listed.matchAll(/(\/\S+) \(0x/g)) all.add(path);
  }
  return all;
}
