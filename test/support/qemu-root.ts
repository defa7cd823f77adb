import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from './cache.js';
import { runCommand } from './command.js';
import { requirePackages, Unavailable, unavailableIfFailing, withFreshLists } from './packages.js';

/** A program of the root directory: what to spawn, with these arguments before one's own. */
export interface RootedCommand {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

const SUITE = 'trixie';
const PACKAGES = ['qemu-system-x86'];
const LIBRARIES = 'usr/lib/x86_64-linux-gnu';
/** Never extracted: 150 MB become 100. QEMU needs none of them for an x86 guest. */
const EXCLUDED = [
  '/usr/share/doc/*',
  '/usr/share/man/*',
  '/usr/share/locale/*',
  '/usr/share/perl5/*',
  '/usr/sbin/*',
  '/usr/lib/x86_64-linux-gnu/gconv/*',
  '/usr/lib/x86_64-linux-gnu/perl*',
  '/usr/bin/qemu-system-i386',
  '/usr/bin/qemu-system-x86_64-microvm',
];

/**
 * The distribution's newest QEMU for x86-64, from `trixie-backports` (11.1.3 at the time of
 * writing; vfio-user-pci needs 10.1), unpacked into a folder of ours.
 *
 * Debian 12 has 7.2, and installing a newer one would pull in a newer libc. The packages are
 * only extracted, no maintainer script runs, and QEMU is started with the folder's own dynamic
 * loader and libraries. A chroot would do too, but it needs root and mounts of /dev, /proc and
 * every place where sockets and memory files are, which must all be undone again.
 */
export async function qemuRoot(): Promise<RootedCommand> {
  // Not the mirror: every mirror of Debian has the same packages, and a cached root needs none.
  const entry = await cached('qemu', [SUITE, ...PACKAGES, ...EXCLUDED], extractRoot);
  const root = join(entry, 'root');
  const libraries = join(root, LIBRARIES);
  const program = join(root, 'usr/bin/qemu-system-x86_64');
  const loader = ['--library-path', libraries, '--argv0', 'qemu-system-x86_64', program];
  const firmware = ['-L', join(root, 'usr/share/qemu'), '-L', join(root, 'usr/share/seabios')];
  return {
    file: join(libraries, 'ld-linux-x86-64.so.2'),
    args: [...loader, ...firmware],
    env: { ...process.env, QEMU_MODULE_DIR: join(libraries, 'qemu') },
  };
}

/** The QEMU that the distribution itself has, 7.2 in Debian 12, installed if it is not. */
export async function installedQemu(): Promise<RootedCommand> {
  await requirePackages(PACKAGES);
  return { file: 'qemu-system-x86_64', args: [], env: process.env };
}

async function extractRoot(directory: string): Promise<void> {
  const mirror = await debianMirror();
  await requirePackages(['mmdebstrap', 'debian-archive-keyring']);
  const aptOptions = join(directory, 'apt.conf');
  await writeFile(aptOptions, await machineAptOptions());
  const args = [
    '--variant=extract',
    '--mode=root',
    `--aptopt=${aptOptions}`,
    '--aptopt=Apt::Install-Recommends "false"',
    // Without this the backport's dependencies on backports are not satisfied from there.
    `--aptopt=Apt::Default-Release "${SUITE}-backports"`,
    ...EXCLUDED.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
    `--include=${PACKAGES.join(',')}`,
    SUITE,
    join(directory, 'root'),
    `deb ${mirror} ${SUITE} main`,
    `deb ${mirror} ${SUITE}-backports main`,
  ];
  await unavailableIfFailing('cannot download QEMU', () =>
    runCommand('mmdebstrap', args, { timeout: 900_000 }),
  );
}

/**
 * The mirror that this machine's apt is configured with for the Debian release it runs; apt
 * itself reads its sources, in whichever format they are.
 */
function debianMirror(): Promise<string> {
  const query = ['indextargets', '--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)'];
  return unavailableIfFailing('no Debian mirror', () =>
    // Without package lists, apt names none of its sources.
    withFreshLists(async () => {
      const release = await readFile('/etc/os-release', 'utf8');
      const codename = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(release)?.[1];
      const targets = await runCommand('apt-get', [...query, 'Created-By: Packages']);
      for (const line of targets.split('\n')) {
        const [uri, name, component] = line.split(' ');
        if (uri !== undefined && name === codename && component === 'main') return uri;
      }
      throw new Unavailable('apt has no source for the Debian release that this machine runs');
    }),
  );
}

/** Proxies, retries, certificates and validity checks as the machine's apt has them. */
async function machineAptOptions(): Promise<string> {
  const dump = await runCommand('apt-config', ['dump', 'Acquire']);
  const lines = dump
    .split('\n')
    .filter((line) => !/^Acquire::(IndexTargets|Compression)/.test(line));
  return `${lines.filter((line) => !line.endsWith(' "";')).join('\n')}\n`;
}
