import { withLock } from './cache.js';
import { CommandError, runCommand } from './command.js';

/** Something outside of the project is missing, so that a test cannot run on this machine. */
export class Unavailable extends Error {
  override readonly name = 'Unavailable';
}

/** DPDK's testpmd, and the drivers that it loads here: the package only recommends them. */
export const DPDK_PACKAGES = [
  'dpdk',
  'librte-mempool-ring23',
  'librte-net-vhost23',
  'librte-net-virtio23',
];

const INSTALL_TIMEOUT = 600_000;
const APT_ENVIRONMENT = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };

/** Runs apt-get without questions; waits for another apt's lock instead of failing on it. */
export function aptGet(args: readonly string[], cwd?: string): Promise<string> {
  const options = ['-qq', '-y', '-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];
  return runCommand('apt-get', [...options, ...args], {
    env: APT_ENVIRONMENT,
    timeout: INSTALL_TIMEOUT,
    ...(cwd === undefined ? {} : { cwd }),
  });
}

let listsUpdated: Promise<unknown> | undefined;

/** `apt-get update`, once in this process; another process of ours is waited for. */
function updateLists(): Promise<unknown> {
  listsUpdated ??= withLock('apt-lists', () => aptGet(['update']));
  return listsUpdated;
}

/**
 * Runs `body`, and once more after `apt-get update` if it fails: a fresh machine has no package
 * lists, and old lists name versions that the mirror no longer has.
 */
export async function withFreshLists<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch {
    await updateLists();
    return await body();
  }
}

/**
 * Makes sure that these Debian packages are installed, installing them when this is root.
 *
 * Resolves with nothing when they are, else with the reason in one line, for
 * `declareTests(reason)` to skip on (or, under CI, to fail on).
 */
export async function ensurePackages(names: readonly string[]): Promise<string | undefined> {
  const missing = await missingPackages(names);
  if (missing.length === 0) return undefined;
  const list = missing.join(' ');
  if (process.getuid?.() !== 0) return `not installed, and only root can install: ${list}`;
  try {
    await withLock('apt', () =>
      withFreshLists(() => aptGet(['install', '--no-install-recommends', ...missing])),
    );
    return undefined;
  } catch (error) {
    return `cannot install ${list}: ${oneLine(error)}`;
  }
}

/** As `ensurePackages`, for code that cannot go on without them. */
export async function requirePackages(names: readonly string[]): Promise<void> {
  const reason = await ensurePackages(names);
  if (reason !== undefined) throw new Unavailable(reason);
}

/** Runs `body`; a command that fails in it means that the machine or its mirror lacks something. */
export async function unavailableIfFailing<T>(what: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new Unavailable(`${what}: ${oneLine(error)}`);
  }
}

async function missingPackages(names: readonly string[]): Promise<string[]> {
  const missing: string[] = [];
  for (const name of names) if (!(await isInstalled(name))) missing.push(name);
  return missing;
}

async function isInstalled(name: string): Promise<boolean> {
  try {
    const status = await runCommand('dpkg-query', ['-W', '-f=${db:Status-Status}\n', name]);
    return status.split('\n').includes('installed');
  } catch {
    return false;
  }
}

function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s+/g, ' ').slice(0, 400);
}
