import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the checkout. This file runs as `dist/test/support/paths.js`. */
export const projectRoot = fileURLToPath(new URL('../../../', import.meta.url));

/** What tests download or build once; ignored by git, kept between runs, safe to delete. */
export const cacheDirectory = join(projectRoot, '.cache');
