import { cp, copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from './cache.js';
import { runCommand } from './command.js';
import { BUSYBOX_FILE, guestKernel, KERNEL_FILE, MODULES_FOLDER } from './guest-kernel.js';
import { requirePackages } from './packages.js';
import { projectRoot } from './paths.js';

/** What QEMU's -kernel and -initrd take. */
export interface GuestImage {
  readonly kernel: string;
  readonly initrd: string;
}

const SOURCES = join(projectRoot, 'test/vm/guest');
const INIT = 'init.sh';
/** The vhost-user protocol in C, which the example has too. */
const HEADERS = join(projectRoot, 'examples/v86/guest');
const PROTOCOL = 'vhost_user.h';

/**
 * A guest that boots into the probe of `test/vm/guest`: Debian's kernel, and an initramfs of
 * busybox, kernel modules and the statically linked probe. Uncompressed, because the guest,
 * which is emulated, would have to unpack it.
 */
export async function guestImage(): Promise<GuestImage> {
  const kernel = await guestKernel();
  const names = (await readdir(SOURCES)).sort();
  const files = [...names.map((name) => join(SOURCES, name)), join(HEADERS, PROTOCOL)];
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')));
  const entry = await cached('guest-image', [kernel, ...names, ...texts], (directory) =>
    buildInitrd(kernel, directory),
  );
  return { kernel: join(kernel, KERNEL_FILE), initrd: join(entry, 'initrd') };
}

async function buildInitrd(kernel: string, directory: string): Promise<void> {
  await requirePackages(['gcc', 'libc6-dev']);
  const tree = join(directory, 'tree');
  const busybox = join(kernel, BUSYBOX_FILE);
  for (const name of ['bin', 'lib', 'proc', 'sys', 'dev']) {
    await mkdir(join(tree, name), { recursive: true });
  }
  await copyFile(busybox, join(tree, 'bin/busybox'));
  await cp(join(kernel, MODULES_FOLDER), join(tree, 'lib/modules'), { recursive: true });
  await writeFile(join(tree, 'init'), await readFile(join(SOURCES, INIT)), { mode: 0o755 });
  await compileProbe(join(tree, 'bin/probe'));
  await packInitrd(busybox, tree, join(directory, 'initrd'));
  await rm(tree, { recursive: true });
}

/** Packs a folder's contents for the kernel, which takes several archives one after the other. */
export async function packInitrd(busybox: string, tree: string, output: string): Promise<void> {
  // busybox has a cpio, so none need be installed. Its list of names comes on standard input.
  const archive = 'find . | "$0" cpio --quiet -o -H newc > "$1"';
  await runCommand('sh', ['-c', archive, busybox, output], { cwd: tree });
}

async function compileProbe(output: string): Promise<void> {
  const files = (await readdir(SOURCES)).filter((name) => name.endsWith('.c'));
  const flags = ['-static', '-O2', '-Wall', '-Wextra', '-Werror', `-I${HEADERS}`];
  await runCommand('gcc', [...flags, '-o', output, ...files], { cwd: SOURCES });
}
