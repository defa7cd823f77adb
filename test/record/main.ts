/**
 * Records what QEMU's frontends say: `npm run record -- NAME...`, where a name is that of a file of
 * test/transcripts without `.json`. Without names, all that can be recorded are.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../support/command.js';
import { requirePackages } from '../support/packages.js';
import { projectRoot } from '../support/paths.js';
import { temporaryFolder } from '../support/temporary.js';
import { vmKit } from '../support/vm-kit.js';
import { DeviceProcess } from '../vm/device-process.js';
import { Vm } from '../vm/qemu.js';
import { Recorder, type RecordedMessage } from './recorder.js';
import { recordedDevices, recordedQemus, type RecordedDevice } from './recordings.js';

async function record(version: string, recorded: RecordedDevice): Promise<RecordedMessage[]> {
  const { command, properties = {} } = recordedQemus[version] ?? {};
  if (command === undefined) throw new Error(`no QEMU is named ${version}`);
  const qemu = await command();
  const is = await runCommand(qemu.file, [...qemu.args, '--version']);
  const expected = `version ${version.replace('qemu-', '')}.`;
  if (!is.includes(expected)) throw new Error(`not ${expected}: ${is}`);
  const { image } = await vmKit();
  const folder = await temporaryFolder('record');
  const device = await DeviceProcess.start({ layout: 'split', window: 'size=512M' });
  const recorder = new Recorder(join(folder.path, 'socket'), device.vhostUser);
  let stop = (): Promise<void> => Promise.resolve();
  try {
    stop = await recorded.backend({ vfioUser: device.vfioUser, folder: folder.path });
    const args = recorded.args(recorder.path, properties);
    const vm = await Vm.start({ qemu, image }, { memory: { size: '256M' }, cpus: 2, args });
    try {
      for (const line of recorded.commands) await vm.shell(line);
      await vm.powerOff();
    } finally {
      await vm.close();
    }
  } finally {
    recorder.close();
    await stop();
    await device.close();
    await folder.remove();
  }
  return recorder.messages;
}

await requirePackages(['qemu-system-common']);
const all = Object.keys(recordedQemus).flatMap((version) =>
  Object.keys(recordedDevices).map((device) => `${version}-${device}`),
);
const names = process.argv.slice(2);
for (const name of names.length > 0 ? names : all) {
  const [, version = '', kind = ''] = /^([a-z]+-[0-9.]+)-(.+)$/.exec(name) ?? [];
  const recorded = recordedDevices[kind];
  if (recorded === undefined) throw new Error(`no recording ${name}, only ${all.join(', ')}`);
  const messages = await record(version, recorded);
  const lines = messages.map((message) => `  ${JSON.stringify(message)}`);
  await writeFile(
    join(projectRoot, 'test/transcripts', `${name}.json`),
    `[\n${lines.join(',\n')}\n]\n`,
  );
  console.log(`${name}: ${messages.length} messages`);
}
