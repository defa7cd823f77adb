import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { janitor } from '../../src/frontend/janitor.js';

export interface TemporaryFolder {
  readonly path: string;
  /** Removes it with its contents; the end of this process does so too, however it comes. */
  readonly remove: () => Promise<void>;
}

/** A new folder `vvu-NAME-*`, in /dev/shm for memory files, else where temporary files go. */
export async function temporaryFolder(name: string, parent = tmpdir()): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(parent, `vvu-${name}-`));
  return { path, remove: janitor('rm -rf -- "$1"', path) };
}
