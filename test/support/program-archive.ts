import { copyFile, mkdir, realpath, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cached } from './cache.js';
import { runCommand } from './command.js';
import { packInitrd, type GuestImage } from './guest-image.js';
import { BUSYBOX_FILE, guestKernel } from './guest-kernel.js';

/**
 * A guest with installed programs of this machine, where they are here, and the libraries that they
 * load. `kind` names the cache's entries.
 */
export async function withPrograms(
  kind: string,
  base: GuestImage,
  programs: readonly string[],
): Promise<GuestImage> {
  const busybox = join(await guestKernel(), BUSYBOX_FILE);
  const files = await withLibraries(programs);
  const states = await Promise.all(
    [...files].map(async (file) => `${file} ${(await stat(file)).size}`),
  );
  const archive = await cached(
    `${kind}-programs`,
    ['linked', busybox, ...states],
    async (directory) => {
      const tree = join(directory, 'tree');
      await copyLinked(files, tree);
      await packInitrd(busybox, tree, join(directory, 'archive'));
      await rm(tree, { recursive: true });
    },
  );
  const parts = [base.initrd, join(archive, 'archive')];
  const entry = await cached(kind, parts, async (directory) => {
    await runCommand('sh', ['-c', 'cat "$@" > initrd', 'sh', ...parts], { cwd: directory });
  });
  return { kernel: base.kernel, initrd: join(entry, 'initrd') };
}

/** Names of one file stay names of one file, or the loader would load it twice. */
async function copyLinked(files: ReadonlySet<string>, tree: string): Promise<void> {
  const copies = new Map<string, string>();
  for (const file of files) {
    await mkdir(join(tree, dirname(file)), { recursive: true });
    const real = await realpath(file);
    const copy = copies.get(real);
    if (copy === undefined) await copyFile(file, join(tree, file));
    else await symlink(copy, join(tree, file));
    copies.set(real, copy ?? file);
  }
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
