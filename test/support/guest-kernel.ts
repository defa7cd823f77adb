import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { cached } from './cache.js';
import { runCommand } from './command.js';
import { aptGet, unavailableIfFailing, withFreshLists } from './packages.js';

/** The cloud flavour: a third of the generic one's size, LZ4, and it has all that is used here. */
const KERNEL = 'linux-image-cloud-amd64';
const BUSYBOX = 'busybox-static';
/** With what they depend on. Virtio modules are for frontend guests; nothing loads them unasked. */
const MODULES = [
  'vfio-pci',
  'vfio_iommu_type1',
  'uio_pci_generic',
  'virtio_pci',
  'virtio_net',
  'virtio_blk',
  'virtio_console',
  'virtio-rng',
  'virtiofs',
  'tun',
];

/** Files of a folder that `guestKernel` made. */
export const KERNEL_FILE = 'vmlinuz';
export const BUSYBOX_FILE = 'busybox';
/** `VERSION/*.ko` and `VERSION/modules.dep`, to become the guest's /lib/modules. */
export const MODULES_FOLDER = 'modules';

/** Debian's kernel for guests, the modules that tests use, and busybox: downloaded, not installed. */
export function guestKernel(): Promise<string> {
  return cached('guest-kernel', [KERNEL, BUSYBOX, ...MODULES], buildKernel);
}

async function buildKernel(directory: string): Promise<void> {
  const unpacked = join(directory, 'unpacked');
  await unavailableIfFailing('cannot download the guest kernel', () => download(unpacked));
  const version = (await readdir(join(unpacked, 'lib/modules')))[0];
  if (version === undefined) throw new Error('the kernel package has no modules');
  await copyFile(join(unpacked, 'boot', `vmlinuz-${version}`), join(directory, KERNEL_FILE));
  await copyFile(join(unpacked, 'bin/busybox'), join(directory, BUSYBOX_FILE));
  const folder = join(directory, MODULES_FOLDER, version);
  await mkdir(folder, { recursive: true });
  await copyModules(join(unpacked, 'lib/modules', version), folder);
  await rm(unpacked, { recursive: true });
}

async function download(unpacked: string): Promise<void> {
  await mkdir(unpacked);
  await withFreshLists(async () => {
    // The metapackage's one dependency is the image of the current version.
    const depends = await runCommand('apt-cache', ['depends', KERNEL]);
    const image = /Depends: (linux-image-\S+)/.exec(depends)?.[1] ?? KERNEL;
    await aptGet(['-o', 'APT::Sandbox::User=root', 'download', image, BUSYBOX], unpacked);
  });
  for (const name of await readdir(unpacked)) {
    await runCommand('dpkg-deb', ['-x', join(unpacked, name), unpacked]);
  }
}

/** Copies the wanted modules and their dependencies, and writes the index that modprobe reads. */
async function copyModules(from: string, to: string): Promise<void> {
  const files = new Map<string, string>();
  for (const path of await readdir(from, { recursive: true })) {
    if (path.endsWith('.ko')) files.set(moduleName(path), join(from, path));
  }
  const index: string[] = [];
  const done = new Set<string>();
  const visit = async (name: string): Promise<string[]> => {
    const file = files.get(moduleName(name));
    if (file === undefined) throw new Error(`the kernel has no module ${name}`);
    const direct = dependencies(await readFile(file));
    const all = new Set<string>();
    for (const one of direct) for (const each of await visit(one)) all.add(each);
    if (!done.has(file)) {
      done.add(file);
      await copyFile(file, join(to, basename(file)));
      index.push(`${basename(file)}: ${[...all].reverse().join(' ')}`);
    }
    return [...all, basename(file)];
  };
  for (const name of MODULES) await visit(name);
  await writeFile(join(to, 'modules.dep'), `${index.join('\n')}\n`);
}

/** The kernel takes '-' and '_' in module names for the same character. */
function moduleName(path: string): string {
  return basename(path, '.ko').replaceAll('-', '_');
}

/** A module names what it needs in its .modinfo section; no modules.dep comes with the package. */
function dependencies(module: Buffer): string[] {
  const list = /\0depends=([^\0]*)\0/.exec(module.toString('latin1'))?.[1] ?? '';
  return list.split(',').filter((name) => name !== '');
}
