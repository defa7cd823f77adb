/** Records what a QEMU frontend says: `npm run record -- FILE`. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEchoBackend } from '../support/echo-backend.js';
import { temporaryFolder } from '../support/temporary.js';
import { vmKit } from '../support/vm-kit.js';
import { DeviceProcess } from '../vm/device-process.js';
import { vhostUserNetArguments } from '../vm/qemu-arguments.js';
import { Vm } from '../vm/qemu.js';
import { Recorder } from './recorder.js';

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('usage: npm run record -- FILE');
const kit = await vmKit();
const folder = await temporaryFolder('record');
const device = await DeviceProcess.start({ layout: 'split', window: 'size=512M' });
const backend = await startEchoBackend(device.vfioUser, { queuePairs: 2 });
const recorder = new Recorder(join(folder.path, 'socket'), device.vhostUser);
try {
  const args = vhostUserNetArguments({ id: 'net', path: recorder.path, queuePairs: 2 });
  const vm = await Vm.start(kit, { memory: { size: '256M' }, cpus: 2, args });
  try {
    await vm.shell('modprobe -a virtio_pci virtio_net');
    await vm.shell('ifconfig eth0 192.0.2.1 netmask 255.255.255.0 up');
    await vm.powerOff();
  } finally {
    await vm.close();
  }
} finally {
  recorder.close();
  await backend.stop();
  await device.close();
  await folder.remove();
}
const lines = recorder.messages.map((message) => `  ${JSON.stringify(message)}`);
await writeFile(file, `[\n${lines.join(',\n')}\n]\n`);
