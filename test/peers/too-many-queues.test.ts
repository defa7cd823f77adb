import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { available, declareTests } from '../support/declare-tests.js';
import { startEchoBackend } from '../support/echo-backend.js';
import { installedQemu, qemuRoot, type RootedCommand } from '../support/qemu-root.js';
import { until } from '../support/until.js';
import { DeviceProcess } from '../vm/device-process.js';

// QEMU asks how many queue pairs there are before its guest starts, and says so if they are too few.

const QEMUS: Readonly<Record<string, () => Promise<RootedCommand>>> = {
  'the distribution': installedQemu,
  'the backports': qemuRoot,
};

for (const [name, command] of Object.entries(QEMUS)) {
  const { value: qemu, reason } = await available(command);
  const qemuTest = declareTests(reason);
  qemuTest(`QEMU of ${name}, asking for more queues than there are, gets its answer`, async (t) => {
    if (!qemu) return;
    const device = await DeviceProcess.start({ layout: 'split', window: 'size=64M' });
    t.teardown(() => device.close());
    const backend = await startEchoBackend(device.vfioUser, { queuePairs: 2 });
    t.teardown(() => backend.stop());
    const socket = `socket,id=c,path=${device.vhostUser}`;
    const netdev = 'vhost-user,id=n,chardev=c,queues=3';
    const own = ['-M', 'none', '-nodefaults', '-display', 'none'];
    const args = [...qemu.args, ...own, '-chardev', socket, '-netdev', netdev];
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', qemu.file, ...args], {
      env: qemu.env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    t.teardown(() => child.kill('SIGKILL'));
    const exited = once(child, 'exit');
    let output = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
    await until(() => output.includes('than supported'), `QEMU's complaint in "${output}"`);
    t.regex(output, /asking more queues than supported: 2/);
    child.kill('SIGKILL');
    await exited;
    await until(() => !backend.driver.connected, 'the end of the connection');
  });
}
