import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from './cache.js';
import { CommandError, runCommand } from './command.js';
import { packInitrd } from './guest-image.js';
import { aptGet, requirePackages, unavailableIfFailing } from './packages.js';
import { projectRoot } from './paths.js';

/** Files for v86's options of the same names. */
export interface V86Image {
  readonly bios: string;
  readonly vgaBios: string;
  readonly kernel: string;
  readonly initrd: string;
}

/** The flavour without PAE, which asks least of a processor. */
const KERNEL = 'linux-image-686';
const OTHERS = ['busybox-static', 'seabios'];
const COMPILER = ['gcc-i686-linux-gnu', 'libc6-dev-i386-cross'];
const SOURCES = join(projectRoot, 'examples/v86/guest');

/** A 32-bit guest for v86 from the distribution's packages, and `examples/v86/guest` in it. */
export async function v86Image(): Promise<V86Image> {
  const packages = await cached('v86-packages', [KERNEL, ...OTHERS], unpackPackages);
  const names = (await readdir(SOURCES)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(SOURCES, name), 'utf8')));
  const initrd = await cached('v86-initrd', [packages, ...names, ...texts], (directory) =>
    buildInitrd(packages, directory),
  );
  return {
    bios: join(packages, 'bios'),
    vgaBios: join(packages, 'vga-bios'),
    kernel: join(packages, 'vmlinuz'),
    initrd: join(initrd, 'initrd'),
  };
}

async function unpackPackages(directory: string): Promise<void> {
  const unpacked = join(directory, 'unpacked');
  await mkdir(unpacked);
  await unavailableIfFailing('cannot download a 32-bit guest', () => download(directory));
  const files = (await readdir(directory)).filter((name) => name.endsWith('.deb'));
  for (const name of files) await runCommand('dpkg-deb', ['-x', join(directory, name), unpacked]);
  const kernel = (await readdir(join(unpacked, 'boot'))).find((name) => name.startsWith('vmlinuz'));
  if (kernel === undefined) throw new Error('the kernel package has no kernel');
  await copyFile(join(unpacked, 'boot', kernel), join(directory, 'vmlinuz'));
  await copyFile(join(unpacked, 'bin/busybox'), join(directory, 'busybox'));
  const firmware = join(unpacked, 'usr/share/seabios');
  await copyFile(join(firmware, 'bios-256k.bin'), join(directory, 'bios'));
  await copyFile(join(firmware, 'vgabios-stdvga.bin'), join(directory, 'vga-bios'));
  for (const name of files) await rm(join(directory, name));
  await rm(unpacked, { recursive: true });
}

/** With package lists of its own, so that the machine's apt never learns of another architecture. */
async function download(directory: string): Promise<void> {
  const apt = join(directory, 'apt');
  for (const name of ['state/lists/partial', 'cache/archives/partial']) {
    await mkdir(join(apt, name), { recursive: true });
  }
  await writeFile(join(apt, 'status'), '');
  const configuration = join(apt, 'apt.conf');
  await writeFile(
    configuration,
    [
      'APT::Architecture "i386";',
      'APT::Architectures { "i386"; };',
      `Dir::State "${apt}/state";`,
      `Dir::State::status "${apt}/status";`,
      `Dir::Cache "${apt}/cache";`,
      'APT::Sandbox::User "root";',
      'Acquire::Languages "none";',
    ].join('\n'),
  );
  const own = ['-c', configuration];
  try {
    await aptGet([...own, 'update']);
  } catch (error) {
    // Some repository of this machine may lack i386; what is needed may be there nevertheless.
    if (!(error instanceof CommandError)) throw error;
  }
  // The metapackage's one dependency is the image of the current version.
  const depends = await runCommand('apt-cache', [...own, 'depends', KERNEL]);
  const image = /Depends: (linux-image-\S+)/.exec(depends)?.[1] ?? KERNEL;
  await aptGet([...own, 'download', image, ...OTHERS], directory);
  await rm(apt, { recursive: true });
}

async function buildInitrd(packages: string, directory: string): Promise<void> {
  await requirePackages(COMPILER);
  const tree = join(directory, 'tree');
  for (const name of ['bin', 'proc', 'sys', 'dev']) {
    await mkdir(join(tree, name), { recursive: true });
  }
  await copyFile(join(packages, 'busybox'), join(tree, 'bin/busybox'));
  await writeFile(join(tree, 'init'), await readFile(join(SOURCES, 'init.sh')), { mode: 0o755 });
  const flags = ['-static', '-O2', '-Wall', '-Wextra', '-Werror'];
  const files = ['-o', join(tree, 'bin/echo-backend'), join(SOURCES, 'echo.c')];
  await runCommand('i686-linux-gnu-gcc', [...flags, ...files]);
  await packInitrd(join(packages, 'busybox'), tree, join(directory, 'initrd'));
  await rm(tree, { recursive: true });
}
