import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDirectory } from './paths.js';

const LOCK_SECONDS = 1200;

/**
 * Runs `body` while no other process of this checkout is inside a lock of that name.
 *
 * The lock is flock(2)'s, held by a child that lives as long as its standard input: when this
 * process dies, however it dies, the pipe closes and the lock is free again.
 */
export async function withLock<T>(name: string, body: () => Promise<T>): Promise<T> {
  await mkdir(cacheDirectory, { recursive: true });
  const holder = spawn(
    'flock',
    ['-w', `${LOCK_SECONDS}`, join(cacheDirectory, `${name}.lock`), 'sh', '-c', 'echo; exec cat'],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const ended = once(holder, 'close');
  try {
    await Promise.race([
      once(holder.stdout, 'data'),
      ended.then(() => Promise.reject(new Error(`cannot take the lock "${name}"`))),
    ]);
    return await body();
  } finally {
    holder.stdin.end();
    await ended;
  }
}

/**
 * The cached folder `KIND-HASH` for these inputs, built on first use.
 *
 * `build` fills an empty folder that gets its final name only when it is complete, so that an
 * interrupted build is never taken for a finished one. Entries of the same kind with other
 * inputs are removed then: nothing asks for them any more.
 */
export async function cached(
  kind: string,
  inputs: readonly string[],
  build: (directory: string) => Promise<void>,
): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16);
  const entry = join(cacheDirectory, `${kind}-${hash}`);
  if (existsSync(entry)) return entry;
  return withLock(kind, async () => {
    if (existsSync(entry)) return entry;
    const stale = new RegExp(`^${kind}-(tmp-.{6}|[0-9a-f]{16})$`);
    for (const name of await readdir(cacheDirectory)) {
      if (stale.test(name)) await rm(join(cacheDirectory, name), { recursive: true });
    }
    const unfinished = await mkdtemp(join(cacheDirectory, `${kind}-tmp-`));
    try {
      await build(unfinished);
      await rename(unfinished, entry);
    } catch (error) {
      await rm(unfinished, { recursive: true, force: true });
      throw error;
    }
    return entry;
  });
}
