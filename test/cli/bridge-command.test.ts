import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { until } from '../support/until.js';
import { VvuProcess } from '../support/vvu-process.js';

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'vvu-bridge-cli-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function refused(args: readonly string[]): Promise<[how: string, why: string]> {
  const process = VvuProcess.run(['bridge', ...args]);
  const how = await process.ended();
  return [how, process.log];
}

test('wrong options: status 2 and one line', async (t) => {
  const path = folder(t);
  const twice = join(path, 'twice.json');
  const one = { device: 'vfio-user:/a', socket: '/b' };
  writeFileSync(twice, JSON.stringify({ bridges: [one, { ...one, device: 'vfio-user:/c' }] }));
  const unknown = join(path, 'unknown.json');
  writeFileSync(unknown, JSON.stringify({ bridges: [{ ...one, device: 'pci', sokcet: 1 }] }));
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /--device and --socket are needed, or --config/],
    [['--device', 'vfio-user:/a'], /--device and --socket are needed/],
    [['--device', 'eth0', '--socket', '/s'], /'eth0' is no device/],
    [['--device', 'vfio-user:', '--socket', '/s'], /is no device/],
    [['--device', '0000:00:05.9', '--socket', '/s'], /is no device/],
    [['--device', 'uuid:1234', '--socket', '/s'], /is no device/],
    [['--device', 'vfio-user:/a', '--socket', '/s', '--mode', 'both'], /one of client, server/],
    [['--device', 'vfio-user:/a', '--socket', '/s', '--bind', 'virtio'], /one of vfio-pci/],
    [
      ['--device', 'vfio-user:/a', '--socket', '/s', '--intx'],
      /has MSI-X: run again without --intx/,
    ],
    [['--config', twice, '--intx'], /--config takes no bridge options beside it/],
    [['--config', twice, '--socket', '/s'], /--config takes no bridge options beside it/],
    [['--config', twice], /\/b is used by two bridges/],
    [['--config', unknown], /bridges\.0\.device: 'pci' is no device.*sokcet/],
    [['--config', join(path, 'none.json')], /ENOENT/],
    [
      ['--device', 'vfio-user:/a', '--socket', join(path, 'no/s'), '--mode', 'server'],
      /cannot listen on/,
    ],
  ];
  await Promise.all(
    cases.map(async ([args, why]) => {
      const [how, text] = await refused(args);
      t.is(how, 'status 2', args.join(' '));
      t.regex(text, why);
    }),
  );
});

/** Receives datagrams, which Node cannot: one line each on stdout, `bound` first. */
const RECEIVER =
  'socket(S, AF_UNIX, SOCK_DGRAM, 0) or die; my $a = $ARGV[0]; $a =~ s/^@/\\0/; ' +
  'bind(S, pack_sockaddr_un($a)) or die; $| = 1; print "bound\\n"; ' +
  'while (defined recv(S, my $m, 100, 0)) { print "$m\\n" }';

for (const abstract of [false, true]) {
  const kind = abstract ? 'an abstract name' : 'a path';

  test(`several bridges wait for their devices; the service manager is told at ${kind}`, async (t) => {
    const path = folder(t);
    const socket = abstract ? `@vvu-test-${process.pid}` : join(path, 'notify');
    const receiver = spawn('perl', ['-MSocket', '-e', RECEIVER, socket]);
    t.teardown(() => receiver.kill('SIGKILL'));
    let told = '';
    receiver.stdout.setEncoding('utf8').on('data', (text: string) => (told += text));
    await until(() => told.startsWith('bound'), 'the receiver');
    const config = join(path, 'bridges.json');
    const bridge = (name: string) => ({
      ...{ name, mode: 'server', device: `vfio-user:${join(path, name)}` },
      socket: join(path, `${name}.sock`),
    });
    writeFileSync(config, JSON.stringify({ bridges: [bridge('net'), bridge('blk')] }));
    const vvu = await VvuProcess.start(['bridge', '--config', config, '--json'], {
      ...process.env,
      NOTIFY_SOCKET: socket,
    });
    t.teardown(() => vvu.kill());
    await until(() => told === 'bound\nREADY=1\n', 'READY=1');
    const waiting = vvu.log.split('\n').filter((line) => line.includes('waiting for the device'));
    t.deepEqual(
      waiting.map((line) => (JSON.parse(line) as { bridge: string; code: string }).bridge),
      ['net', 'blk'],
    );
    t.is(await vvu.stop(), 'status 0');
    await until(() => told === 'bound\nREADY=1\nSTOPPING=1\n', 'STOPPING=1');
  });
}

test('a service manager that does not listen ends nothing', async (t) => {
  const path = folder(t);
  const args = ['bridge', '--device', `vfio-user:${path}/none`, '--socket', `${path}/backend`];
  const vvu = await VvuProcess.start(args, { ...process.env, NOTIFY_SOCKET: `${path}/notify` });
  t.is(await vvu.stop(), 'status 0');
  t.regex(vvu.log, /service manager not notified/);
});
