import test from 'ava';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../support/paths.js';
import { VFIO_USER_INPUTS } from './vfio-user-inputs.js';
import { VHOST_USER_INPUTS } from './vhost-user-inputs.js';

const ERRNO: Readonly<Record<number, string>> = {
  17: 'EEXIST',
  22: 'EINVAL',
  34: 'ERANGE',
  38: 'ENOSYS',
  95: 'ENOTSUP',
};

function text(outcome: string | number): string {
  return typeof outcome === 'number' ? (ERRNO[outcome] ?? String(outcome)) : outcome;
}

/** Rows of the table under a heading of the document, without the two lines of its head. */
function documented(heading: string): string[] {
  const document = readFileSync(join(projectRoot, 'docs/threat-model.md'), 'utf8');
  const section = document.split(/^## /m).find((part) => part.startsWith(heading)) ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .slice(2)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim())
        .join(': '),
    );
}

test('the document lists exactly the vfio-user inputs that are tested', (t) => {
  t.deepEqual(
    documented('What a vfio-user client may send'),
    VFIO_USER_INPUTS.map(({ name, outcome }) => `${name}: ${text(outcome)}`),
  );
});

test('the document lists exactly the vhost-user inputs that are tested', (t) => {
  t.deepEqual(
    documented('What a vhost-user frontend may send'),
    VHOST_USER_INPUTS.map(({ name, outcome }) => `${name}: ${text(outcome)}`),
  );
});
