import { createHash } from 'node:crypto';
import { copyFile, cp, mkdir, readFile, readdir, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { cached } from './cache.js';
import { runCommand } from './command.js';
import { guestImage, packInitrd, type GuestImage } from './guest-image.js';
import { BUSYBOX_FILE, guestKernel } from './guest-kernel.js';
import { projectRoot } from './paths.js';

/** Where the project is in the guest. */
export const GUEST_PROJECT = '/vvu';
/** Memory that a VM with this image needs: the archive, what is unpacked, and Node.js at work. */
export const NODE_GUEST_MEMORY = '1G';

/** Runtime dependencies; those that only build the addon are left out. */
const PACKAGES = [
  'commander',
  'eventemitter3',
  'node-gyp-build',
  'pino',
  'pino-pretty',
  'vfio-ts-bindings',
  'zod',
];
/** What the compiled project is made of, below its root. */
const COMPILED = ['dist/src', 'dist/test/vm/guest-node', 'packages/vfio-ts-bindings/dist/src'];
const ADDON = 'build/Release/virtio_vhost_user.node';

/**
 * The guest of `guestImage` with this machine's Node.js and the project as it is compiled now, in
 * `/vvu`: two more archives behind the first one, the larger of which changes rarely.
 */
export async function nodeGuestImage(): Promise<GuestImage> {
  const [kernel, image] = await Promise.all([guestKernel(), guestImage()]);
  const busybox = join(kernel, BUSYBOX_FILE);
  const { mtimeMs, size } = await stat(process.execPath);
  const lock = await readFile(join(projectRoot, 'package-lock.json'), 'utf8');
  const runtime = await cached(
    'guest-node',
    [busybox, process.version, `${mtimeMs} ${size}`, lock],
    (directory) => buildRuntime(busybox, directory),
  );
  const parts = [image.initrd, join(runtime, 'archive')];
  const entry = await cached('guest-app', [...parts, await hashProject()], async (directory) => {
    const project = join(directory, 'project');
    await buildProject(busybox, directory, project);
    const join_ = 'cat "$@" > initrd';
    await runCommand('sh', ['-c', join_, 'sh', ...parts, project], { cwd: directory });
    await rm(project);
  });
  return { kernel: image.kernel, initrd: join(entry, 'initrd') };
}

async function buildRuntime(busybox: string, directory: string): Promise<void> {
  const tree = join(directory, 'tree');
  await mkdir(join(tree, 'bin'), { recursive: true });
  await copyFile(process.execPath, join(tree, 'bin/node'));
  const listed = await runCommand('ldd', [process.execPath]);
  for (const [, path = ''] of listed.matchAll(/(\/\S+) \(0x/g)) {
    await mkdir(join(tree, dirname(path)), { recursive: true });
    // A link's target under the link's name.
    await copyFile(path, join(tree, path));
  }
  const modules = join(tree, GUEST_PROJECT, 'node_modules');
  for (const name of await withDependencies(PACKAGES)) {
    if (name === 'vfio-ts-bindings') continue;
    await cp(join(projectRoot, 'node_modules', name), join(modules, name), { recursive: true });
  }
  await packInitrd(busybox, tree, join(directory, 'archive'));
  await rm(tree, { recursive: true });
}

async function buildProject(busybox: string, directory: string, output: string): Promise<void> {
  const tree = join(directory, 'tree');
  const root = join(tree, GUEST_PROJECT);
  const bindings = 'packages/vfio-ts-bindings';
  for (const path of [...COMPILED, ADDON, 'package.json', join(bindings, 'package.json')]) {
    // npm links the workspace into node_modules; here it is there itself.
    const place = path.replace(bindings, 'node_modules/vfio-ts-bindings');
    await mkdir(join(root, dirname(place)), { recursive: true });
    await cp(join(projectRoot, path), join(root, place), { recursive: true });
  }
  await packInitrd(busybox, tree, output);
  await rm(tree, { recursive: true });
}

/** Names of packages and all that they need, from what is installed at the top level. */
async function withDependencies(names: readonly string[]): Promise<Set<string>> {
  const all = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    if (all.has(name)) return;
    all.add(name);
    const file = join(projectRoot, 'node_modules', name, 'package.json');
    const { dependencies = {} } = JSON.parse(await readFile(file, 'utf8')) as {
      dependencies?: Record<string, string>;
    };
    for (const each of Object.keys(dependencies)) await visit(each);
  };
  for (const name of names) await visit(name);
  return all;
}

async function hashProject(): Promise<string> {
  const hash = createHash('sha256');
  const files = [ADDON, 'package.json'];
  for (const folder of COMPILED) {
    const found = await readdir(join(projectRoot, folder), { recursive: true });
    files.push(...found.filter((name) => name.endsWith('.js')).map((name) => join(folder, name)));
  }
  for (const file of files.sort()) {
    hash.update(`${basename(file)}\n`).update(await readFile(join(projectRoot, file)));
  }
  return hash.digest('hex');
}
