import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../support/command.js';
import { declareTests } from '../support/declare-tests.js';
import { ensurePackages } from '../support/packages.js';
import { projectRoot } from '../support/paths.js';
import { temporaryFolder } from '../support/temporary.js';

// What docs/operating.md tells people to copy: units of systemd and domains of libvirt.

const document = readFileSync(join(projectRoot, 'docs/operating.md'), 'utf8');

/** The blocks of one language, each with the paragraph before it. */
function blocks(language: string): { readonly title: string; readonly text: string }[] {
  const pattern = new RegExp(`([^\\n]*)\\n\\n\`\`\`${language}\\n([^]*?)\`\`\``, 'g');
  return [...document.matchAll(pattern)].map(([, title = '', text = '']) => ({ title, text }));
}

const packages = ['systemd', 'libvirt-clients', 'libxml2-utils'];
const documentTest = declareTests(await ensurePackages(packages));

documentTest('systemd accepts the units', async (t) => {
  const folder = await temporaryFolder('units');
  t.teardown(() => folder.remove());
  const names: string[] = [];
  for (const { title, text } of blocks('ini')) {
    const [, name = ''] = /`\/etc\/systemd\/system\/([^`]+)`/.exec(title) ?? [];
    t.regex(name, /\.service$/, title);
    // The programs need not be installed here.
    await writeFile(join(folder.path, name), text.replaceAll(/=\/usr\/bin\/\S+/g, '=/bin/sh'));
    names.push(name.replace('@.', '@tenant.'));
  }
  t.deepEqual(
    names.sort(),
    ['appliance', 'device', 'frontend'].map((part) => `vvu-${part}@tenant.service`),
  );
  // What it only warns of goes to stderr, too.
  const verify = 'cd "$0" && systemd-analyze verify --man=no "$@" 2>&1';
  t.is(await runCommand('sh', ['-c', verify, folder.path, ...names]), '');
});

documentTest("the domains are valid by libvirt's schema", async (t) => {
  const folder = await temporaryFolder('domains');
  t.teardown(() => folder.remove());
  const domains = blocks('xml');
  t.is(domains.length, 2);
  for (const { text } of domains) {
    const path = join(folder.path, 'domain.xml');
    await writeFile(path, text);
    await t.notThrowsAsync(runCommand('virt-xml-validate', [path, 'domain']));
    await writeFile(path, text.replace('<memory ', '<memories '));
    await t.throwsAsync(runCommand('virt-xml-validate', [path, 'domain']));
  }
});
