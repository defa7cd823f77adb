import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { projectRoot } from '../support/paths.js';

/* docs/plugin-api.md against the code that it describes; test/examples runs the example. */
const read = (path: string): string => readFileSync(join(projectRoot, path), 'utf8');
const document = read('docs/plugin-api.md');
const options = read('src/hosts/in-process/options.ts');

/** Names of the members of an interface of `options.ts`. */
function members(name: string): string[] {
  const [, body = ''] =
    new RegExp(`export interface ${name} \\{\n(.*?)\n\\}`, 's').exec(options) ?? [];
  return [...body.matchAll(/^ {2}(?:readonly )?'?([\w-]+)'?[?]?[:(]/gm)].map(
    ([, member]) => member!,
  );
}

/** The first column of the table behind a heading. */
function column(heading: string): string[] {
  const section = document.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return [...section.matchAll(/^\| `([\w-]+)`/gm)].map(([, cell]) => cell!);
}

test('the worked example is the file that runs', (t) => {
  const [, block] = /^```ts\n(.*?)^```$/ms.exec(document) ?? [];
  t.is(block, read('examples/plugin.ts'));
});

test('every option and every event is described', (t) => {
  t.true(members('VirtioVhostUserOptions').length > 10);
  t.deepEqual(column('Options').sort(), members('VirtioVhostUserOptions').sort());
  t.true(members('VirtioVhostUserEvents').length === 6);
  t.deepEqual(column('Events').sort(), members('VirtioVhostUserEvents').sort());
});

test('every member of a port is named', (t) => {
  for (const port of ['MemoryAccessor', 'InterruptPort', 'WindowPort', 'DoorbellPort']) {
    for (const member of members(port)) {
      t.regex(document, new RegExp(`\`[^\`]*\\b${member}\\b[^\`]*\``), `${port}.${member}`);
    }
  }
});
