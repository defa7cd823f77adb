import test from 'ava';
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LAYOUTS } from '../../src/hosts/layout.js';
import { projectRoot } from '../support/paths.js';

const run = promisify(execFile);
const MAIN = join(projectRoot, 'dist/src/cli/main.js');

for (const layout of LAYOUTS) {
  test.serial(`the demo with the built-in frontend, ${layout}`, async (t) => {
    const args = [
      'demo',
      '--frontend',
      'built-in',
      '--seconds',
      '1',
      '--queues',
      '2',
      '--layout',
      layout,
    ];
    const { stdout } = await run(process.execPath, [MAIN, ...args]);
    for (const part of [
      /-> GET_FEATURES/,
      /<- GET_FEATURES reply 0x/,
      /at window offset 0x0, mapped/,
      /call eventfds of vrings: 0, 1, 2, 3/,
      /lost 0$/m,
      /queue pair 1: [1-9]\d* packets/,
      /^ok, /m,
    ]) {
      t.regex(stdout, part);
    }
    t.true(stdout.indexOf('-> GET_FEATURES') < stdout.indexOf('<- GET_FEATURES'));
    t.deepEqual(
      readdirSync(tmpdir()).filter((name) => name.startsWith('vvu-demo-')),
      [],
    );
  });
}

test.serial('a demo that cannot run says why', async (t) => {
  const error = await t.throwsAsync(run(process.execPath, [MAIN, 'demo', '--frontend', 'magic']));
  t.like(error, { code: 2 });
  t.regex((error as { stderr?: string }).stderr ?? '', /one of dpdk, built-in/);
});
