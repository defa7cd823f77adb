import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Testpmd, testpmdMissing } from '../../src/frontend/testpmd.js';
import { exchange } from '../../src/frontend/testpmd-traffic.js';
import { declareTests } from '../support/declare-tests.js';
import { DPDK_PACKAGES, ensurePackages } from '../support/packages.js';
import { projectRoot } from '../support/paths.js';
import { until } from '../support/until.js';
import { DeviceProcess } from '../vm/device-process.js';
import { report } from './bridge-rig.js';

const unavailable = await ensurePackages(DPDK_PACKAGES);
const dpdkTest = declareTests(unavailable ?? testpmdMissing());

dpdkTest('the example backend serves DPDK on four queue pairs', async (t) => {
  const device = await DeviceProcess.start({ layout: 'split', window: 'size=1G' });
  t.teardown(() => device.close());
  const program = join(projectRoot, 'dist/examples/echo-backend.js');
  const command = ['--pdeathsig', 'KILL', '--', process.execPath, program];
  const example = spawn('setpriv', [...command, `vfio-user:${device.vfioUser}`]);
  t.teardown(() => example.kill('SIGKILL'));
  const exited = once(example, 'close');
  let output = '';
  for (const stream of [example.stdout, example.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  await until(() => output.includes('ready'), 'the example');
  const frontend = Testpmd.frontend({ socket: device.vhostUser, server: false, queues: 4 });
  t.teardown(() => frontend.stop());
  await frontend.ready();
  await frontend.link(true);
  report(t, 'example', await exchange(frontend));
  await frontend.stop();
  await until(() => output.includes('after 512 packets'), `its count in ${output}`);
  example.kill('SIGTERM');
  t.deepEqual(await exited, [0, null]);
});
