import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { janitor } from '../../src/frontend/janitor.js';

const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB';
const PAGE_MIB = 2;

/** 2 MiB hugepages taken from the kernel, and a private hugetlbfs to use them through. */
export interface Hugepages {
  /** Where the hugetlbfs is mounted: a fresh directory, mode 0700. */
  readonly dir: string;
  readonly mib: number;
  /**
   * Unmount, which frees the files in it, and give the pages back. Idempotent. Happens by itself
   * if this process dies first. Processes that still map the files keep their pages until they end.
   */
  release(): Promise<void>;
}

/** Why this machine cannot reserve hugepages, or undefined. */
export function hugepagesMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'hugepages: not root';
  return existsSync(POOL) ? undefined : 'hugepages: this kernel has none of 2 MiB';
}

/**
 * Grow or shrink the kernel's pool. The kernel only knows the total, so a lock makes
 * read-add-write atomic among our processes (on the sysfs directory itself: no lock file to leave).
 * @returns the totals before and after
 */
const RESIZE = 'n=$(cat "$1") && echo $((n + $2)) > "$1" && echo "$n $(cat "$1")"';
function resizePool(pages: number): [number, number] {
  const file = `${POOL}/nr_hugepages`;
  const args = [POOL, 'sh', '-c', RESIZE, 'resize', file, String(pages)];
  const [before = 0, after = 0] = execFileSync('flock', args, { encoding: 'utf8' })
    .split(' ')
    .map(Number);
  return [before, after];
}

/** Reserve `mib` MiB on top of what is reserved already; all of it or an error. */
export function reserveHugepages(mib: number): Hugepages {
  const pages = Math.ceil(mib / PAGE_MIB);
  const [before, after] = resizePool(pages);
  if (after < before + pages) {
    resizePool(before - after);
    throw new Error(`hugepages: the kernel gave ${String(after - before)} of ${String(pages)}`);
  }
  const dir = mkdtempSync(join(tmpdir(), 'vvu-huge-'));
  try {
    execFileSync('mount', ['-t', 'hugetlbfs', '-o', 'pagesize=2M,mode=0700', 'vvu', dir]);
  } catch (error) {
    rmdirSync(dir);
    resizePool(-pages);
    throw error;
  }
  // Pages that are still mapped become surplus when the pool shrinks, and are freed by their last user.
  const clean = janitor(
    `{ umount "$1" || umount -l "$1"; } && rmdir "$1"; flock "$2" sh -c '${RESIZE}' x "$2/nr_hugepages" "$3"`,
    dir,
    POOL,
    String(-pages),
  );
  let released: Promise<void> | undefined;
  return { dir, mib: pages * PAGE_MIB, release: () => (released ??= clean()) };
}
