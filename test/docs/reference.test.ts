import { join } from 'node:path';
import test from 'ava';
import { runCommand } from '../support/command.js';
import { projectRoot } from '../support/paths.js';

// A type that is used and not exported, or a link that leads nowhere, is a warning of typedoc, and
// all warnings are errors.
test('the reference of the public interface is complete', async (t) => {
  t.timeout(290_000);
  const typedoc = join(projectRoot, 'node_modules/typedoc/bin/typedoc');
  const args = [typedoc, '--emit', 'none'];
  for (const more of [[], ['--options', 'packages/vfio-ts-bindings/typedoc.json']]) {
    const run = runCommand(process.execPath, [...args, ...more], {
      cwd: projectRoot,
      timeout: 140_000,
    });
    await t.notThrowsAsync(run);
  }
});
