// Uses a prebuilt binary when one ships for this platform, else compiles against the headers that
// the running Node was installed with, so that no network is needed.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);

function hasPrebuilt() {
  try {
    require('node-gyp-build').resolve(root);
    return true;
  } catch {
    return false;
  }
}

function compile() {
  const prefix = dirname(dirname(process.execPath));
  const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h'));
  const args = [require.resolve('node-gyp/bin/node-gyp.js'), 'rebuild'];
  if (headers) args.push(`--nodedir=${prefix}`);
  const result = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  return result.status ?? 1;
}

const rebuild = process.argv.includes('--rebuild');
process.exitCode = !rebuild && hasPrebuilt() ? 0 : compile();
