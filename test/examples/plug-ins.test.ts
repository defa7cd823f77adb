import { join } from 'node:path';
import test from 'ava';
import { testDirectory } from '../guest/rig.js';
import { connectFrontend } from '../support/raw-rig.js';
import { DeviceProcess } from '../vm/device-process.js';
import { startExample } from './program.js';

/* The two examples of a hypervisor in TypeScript, as programs, with a frontend that comes and goes. */

test('a hypervisor with the device in its process', async (t) => {
  const vhostUser = join(testDirectory(t), 'vhost-user');
  const program = startExample(t, 'plugin', vhostUser);
  await program.printed('waiting for a frontend');
  const frontend = connectFrontend(t, { vhostUser });
  await program.printed('link status 3');
  frontend.close();
  t.is(await program.ended(), 0);
  const [id, ...lines] = program.lines;
  t.regex(id ?? '', /^PCI function f41a5810, uuid [0-9a-f-]{36}$/);
  t.deepEqual(lines, [
    'BAR 0 has 16384 bytes',
    `vrings: 256, waiting for a frontend on ${vhostUser}`,
    'frontend connected',
    'INTA raised',
    'INTA lowered',
    'guest: a change, link status 3',
    'frontend gone: EOF, the peer closed',
    'INTA raised',
    'INTA lowered',
    'guest: a change, link status 0',
    'closed',
  ]);
});

test('a hypervisor that attaches a vfio-user device', async (t) => {
  const device = await DeviceProcess.start({ layout: 'split', window: 'size=64M' });
  t.teardown(() => device.close());
  const program = startExample(t, 'vfio-user-attach', device.vfioUser);
  await program.printed('waiting for a frontend');
  const frontend = connectFrontend(t, device);
  await program.printed('a frontend is connected');
  frontend.close();
  t.is(await program.ended(), 0);
  const { lines } = program;
  for (const line of [
    'region 0 (BAR 0): 0x4000 bytes, read write',
    'region 4 (BAR 4): 0x4000000 bytes, read write',
    'region 7 (config): 0x1000 bytes, read write',
    'config: 1af4:1058 class ff0000 subsystem 1af4:1058',
    'irq 0 (INTx): 1',
    'irq 2 (MSI-X): 259',
    'up, waiting for a frontend',
    'interrupt: the frontend is gone',
  ]) {
    t.true(lines.includes(line), `${line}\n${lines.join('\n')}`);
  }
  t.is(lines.filter((line) => line.includes('virtio structure')).length, 8);
});

test('a socket that nobody listens on', async (t) => {
  const program = startExample(t, 'vfio-user-attach', join(testDirectory(t), 'nobody'));
  t.is(await program.ended(), 1);
  t.regex(program.lines.join('\n'), /ENOENT/);
});
