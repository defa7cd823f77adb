import test from 'ava';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { native } from '../../src/native.js';
import { projectRoot } from '../support/paths.js';

const MAIN = join(projectRoot, 'dist/src/cli/main.js');
const folder = mkdtempSync(join(tmpdir(), 'vvu-cli-'));
test.after.always(() => rmSync(folder, { recursive: true }));
const path = (name: string): string => join(folder, name);

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `vvu` until it ends by itself. */
async function vvu(...args: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout, stderr };
}

/** Starts `vvu device`, hands its first lines over, ends it with `signal`. */
async function serve(
  args: string[],
  lines: number,
  work: (lines: string[]) => void | Promise<void>,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<number | null> {
  const child = spawn(process.execPath, [MAIN, 'device', ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(child, 'close') as Promise<[number | null]>;
  const read: string[] = [];
  try {
    for await (const line of createInterface(child.stdout)) {
      read.push(line);
      if (read.length === lines) break;
    }
    await work(read);
  } finally {
    child.kill(signal);
  }
  return (await ended)[0];
}

const sockets = (name: string): string[] => [
  ...['--vfio-user', path(`${name}.vfio`)],
  ...['--vhost-user', path(`${name}.vhost`)],
];

const WRONG: readonly (readonly [name: string, args: string[], message: RegExp])[] = [
  ['no sockets', [], /--vfio-user and --vhost-user are needed/],
  ['one socket', ['--vfio-user', path('x')], /are needed/],
  ['an unknown option', [...sockets('x'), '--frob'], /unknown option '--frob'/],
  ['a window without a size', [...sockets('x'), '--window', 'path=/x'], /--window/],
  ['no queues', [...sockets('x'), '--queues', '0'], /1\.\.1024/],
  ['too many queues', [...sockets('x'), '--queues', '1025'], /1\.\.1024/],
  ['an unknown layout', [...sockets('x'), '--layout', 'new'], /one of split, rfc/],
  [
    'no way to treat requests',
    [...sockets('x'), '--unknown-requests', 'ask'],
    /one of pass, refuse/,
  ],
  [
    'a feature that is none',
    [...sockets('x'), '--hide-features', 'MQ,LOG'],
    /'LOG' is not one of MQ/,
  ],
  ['a uuid that is none', [...sockets('x'), '--uuid', 'me'], /'me' is not a UUID/],
  ['a group that is none', [...sockets('x'), '--socket-group', 'no-such'], /no group 'no-such'/],
  [
    'a folder that is none',
    ['--vfio-user', '/nowhere/a', '--vhost-user', path('b')],
    /\/nowhere\/a/,
  ],
  [
    'a window file that is a folder',
    [...sockets('x'), '--window', `path=${folder},size=1M`],
    /EISDIR/,
  ],
  ['a config that is none', ['--config', path('none.json')], /none\.json: ENOENT/],
  ['options beside a config', ['--config', path('c.json'), '--layout', 'rfc'], /beside it/],
];

for (const [name, args, message] of WRONG) {
  test(`wrong options: ${name}`, async (t) => {
    const { status, stdout, stderr } = await vvu('device', ...args);
    t.is(status, 2);
    t.is(stdout, '');
    t.regex(stderr, message);
    t.is(stderr.trim().split('\n').length, 1, 'one clear line');
    if (name === 'a folder that is none') t.false(existsSync(path('b')), 'the other one is gone');
  });
}

test('a window file that is too short', async (t) => {
  writeFileSync(path('short'), 'x');
  const { status, stderr } = await vvu(
    'device',
    ...sockets('s'),
    '--window',
    `path=${path('short')},size=1M`,
  );
  t.is(status, 2);
  t.regex(stderr, /it has 1 bytes, the window needs 1048576/);
});

test('one line says ready, then the arguments of both VMs', async (t) => {
  const args = [...sockets('plain'), '--window', `path=${path('ram')},size=4M`];
  const status = await serve(args, 3, ([ready, appliance, frontend]) => {
    t.regex(ready ?? '', /^ready device0 vfio-user=\S+ vhost-user=\S+ uuid=[0-9a-f-]{36}$/);
    t.regex(appliance ?? '', /"driver":"vfio-user-pci"/);
    t.true(appliance?.includes(path('plain.vfio')));
    t.true(frontend?.includes(`mem-path=${path('ram')},share=on`));
    t.true(frontend?.includes(path('plain.vhost')));
    t.is(statSync(path('plain.vfio')).mode & 0o777, 0o600);
    t.is(statSync(path('plain.vhost')).mode & 0o777, 0o600);
    t.is(statSync(path('ram')).size, 4 * 2 ** 20, 'the window file was made');
  });
  t.is(status, 0);
  t.false(existsSync(path('plain.vfio')));
  t.false(existsSync(path('plain.vhost')));
});

test('JSON, socket mode, a stable uuid, SIGINT', async (t) => {
  const args = [
    ...sockets('json'),
    '--json',
    '--socket-mode',
    '0660',
    '--state-dir',
    path('state'),
  ];
  const uuids: unknown[] = [];
  for (let run = 0; run < 2; run++) {
    const status = await serve(
      args,
      1,
      ([line]) => {
        const report = JSON.parse(line ?? '') as Record<string, unknown>;
        t.like(report, { event: 'ready', name: 'device0', vfioUser: path('json.vfio') });
        t.true(Array.isArray(report['applianceArguments']));
        uuids.push(report['uuid']);
        t.is(statSync(path('json.vfio')).mode & 0o777, 0o660);
      },
      'SIGINT',
    );
    t.is(status, 0);
  }
  t.is(uuids[0], uuids[1]);
});

test('several devices from a file', async (t) => {
  const device = (name: string) => ({
    name,
    vfioUser: path(`${name}.vfio`),
    vhostUser: path(`${name}.vhost`),
    window: { size: '64M' },
    queues: 16,
  });
  writeFileSync(path('two.json'), JSON.stringify({ devices: [device('net0'), device('blk0')] }));
  const status = await serve(['--config', path('two.json'), '--json'], 2, (lines) => {
    const names = lines.map((line) => (JSON.parse(line) as { name: string }).name);
    t.deepEqual(names, ['net0', 'blk0']);
    for (const name of names) t.true(existsSync(path(`${name}.vfio`)));
  });
  t.is(status, 0);
  for (const name of ['net0', 'blk0']) t.false(existsSync(path(`${name}.vhost`)));
});

test('a config with a mistake names the field, and starts nothing', async (t) => {
  const good = { vfioUser: path('m.vfio'), vhostUser: path('m.vhost') };
  const cases: [unknown, RegExp][] = [
    [{ devices: [] }, /devices/],
    [{ devices: [{ ...good, queues: 5000 }] }, /devices\.0\.queues: .*1\.\.1024/],
    [{ devices: [{ ...good, windw: {} }] }, /windw/],
    [{ devices: [{ ...good, unknownRequests: 'ask' }] }, /devices\.0\.unknownRequests/],
    [{ devices: [{ ...good, hideFeatures: ['LOG'] }] }, /devices\.0\.hideFeatures\.0/],
    [{ devices: [good, { vfioUser: 'x' }] }, /devices\.1\.vhostUser/],
    [{ devices: [{ ...good, window: { size: 'big' } }] }, /devices\.0\.window\.size/],
  ];
  for (const [config, message] of cases) {
    writeFileSync(path('bad.json'), JSON.stringify(config));
    const { status, stderr } = await vvu('device', '--config', path('bad.json'));
    t.is(status, 2);
    t.regex(stderr, message);
    t.false(existsSync(path('m.vfio')));
  }
});

test('a live socket is refused and stays, a stale one is replaced', async (t) => {
  const live = native.listen(path('live.vfio'), {}, (socket) => socket.close());
  t.teardown(() => live.close());
  const { status, stderr } = await vvu('device', ...sockets('live'));
  t.is(status, 2);
  t.regex(stderr, /live\.vfio.*(in use|listens)/);
  t.true(existsSync(path('live.vfio')));
  t.false(existsSync(path('live.vhost')), 'the other socket is gone again');

  // A device that was killed leaves its sockets; the next one takes them over.
  const killed = await serve(sockets('stale'), 1, () => undefined, 'SIGKILL');
  t.is(killed, null);
  t.true(existsSync(path('stale.vfio')));
  t.is(await serve(sockets('stale'), 1, () => undefined), 0);
});

test('help and version', async (t) => {
  const help = await vvu('--help');
  t.is(help.status, 0);
  t.regex(help.stdout, /device/);
  t.regex(help.stdout, /demo/);
  t.regex((await vvu('--version')).stdout, /^\d+\.\d+\.\d+$/m);
  t.is((await vvu('frob')).status, 2);
});
