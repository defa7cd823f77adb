import { join } from 'node:path';
import test from 'ava';
import { runCommand } from '../support/command.js';
import { projectRoot } from '../support/paths.js';

const CYCLES = 300;

// In a process of its own, which nothing else opens files in.
test('devices that come and go leave nothing behind', async (t) => {
  t.timeout(280_000);
  const program = join(projectRoot, 'dist/test/soak/main.js');
  const output = await runCommand(process.execPath, ['--expose-gc', program, String(CYCLES)], {
    timeout: 270_000,
  });
  t.regex(output, /^ok: no fd, mapping or thread more/m, output);
  t.regex(output, new RegExp(`^ +${CYCLES} +${20 * CYCLES} `, 'm'), output);
});
