import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { formatUuid, parseUuid, persistentUuid, randomUuid } from '../../src/device/identity.js';

test('a UUID keeps its textual byte order', (t) => {
  const text = '00112233-4455-6677-8899-aabbccddeeff';
  t.is(parseUuid(text).toString('hex'), '00112233445566778899aabbccddeeff');
  t.is(formatUuid(parseUuid(text.toUpperCase())), text);
});

test('what is no UUID is refused with the text in the message', (t) => {
  for (const text of ['', 'x', '00112233445566778899aabbccddeeff', '0'.repeat(36)]) {
    const error = t.throws(() => parseUuid(text));
    t.like(error, { code: 'BAD_UUID', scope: 'setup' });
    t.true(error.message.includes(`'${text}'`));
  }
});

test('random UUIDs are version 4 and differ', (t) => {
  const [a, b] = [formatUuid(randomUuid()), formatUuid(randomUuid())];
  t.regex(a, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  t.not(a, b);
});

test('a state directory keeps the UUID, one per device, readable by its owner alone', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'vvu-state-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const state = join(directory, 'new', 'state');
  const first = persistentUuid(state, 'net0');
  t.deepEqual(persistentUuid(state, 'net0'), first);
  t.notDeepEqual(persistentUuid(state, 'net1'), first);
  t.is(statSync(join(state, 'net0.uuid')).mode & 0o777, 0o600);
});

test('a damaged state file is an error, not a new identity', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'vvu-state-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'net0.uuid'), 'garbage\n');
  const error = t.throws(() => persistentUuid(directory, 'net0'));
  t.like(error, { code: 'BAD_STATE_FILE', scope: 'setup' });
  t.regex(error.message, /net0\.uuid/);
});

test('a state directory that cannot be made is an error, also where the system claims otherwise', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'vvu-state-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'file'), '');
  for (const state of [join(directory, 'file', 'state'), '/proc/nowhere', '/proc/nowhere/state']) {
    const error = t.throws(() => persistentUuid(state, 'net0'));
    t.like(error, { code: 'BAD_STATE_FILE', scope: 'setup' });
  }
});

test('a state file that cannot be written leaves nothing behind', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'vvu-state-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const module = new URL('../../src/device/identity.js', import.meta.url).href;
  const script = `
    import { persistentUuid } from '${module}';
    try { persistentUuid('${directory}', 'net0'); } catch { process.exitCode = 3; }`;
  // As on a full disk: not one byte fits.
  const { status } = spawnSync('prlimit', [
    ...['--fsize=0', process.execPath, '--input-type=module', '-e', script],
  ]);
  t.is(status, 3);
  t.deepEqual(readdirSync(directory), []);
  t.is(persistentUuid(directory, 'net0').length, 16, 'and the next start makes it');
});
