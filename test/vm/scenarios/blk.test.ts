import { join } from 'node:path';
import { runCommand } from '../../support/command.js';
import { available, declareTests } from '../../support/declare-tests.js';
import { temporaryFolder } from '../../support/temporary.js';
import { scenarioKits } from '../../support/vm-kit.js';
import { BlkLab } from './blk-lab.js';

// Two VMs: qemu-storage-daemon in the appliance serves its disk, and the Linux of the other one has
// an ext4 on it.

const { value: kits, reason } = await available(scenarioKits);
const vmTest = declareTests(reason);

const FRONTEND_MEMORY = '192M';
const MIB = 64;

vmTest(`a VM writes ${MIB} MiB to the disk that another VM serves, and reads them`, async (t) => {
  if (!kits) return;
  t.timeout(900_000);
  const began = Date.now();
  const folder = await temporaryFolder('blk', '/dev/shm');
  t.teardown(() => folder.remove());
  const lab = await BlkLab.start(kits, {
    folder: folder.path,
    diskMib: 2 * MIB,
    frontends: [{ size: FRONTEND_MEMORY, path: join(folder.path, 'ram') }],
    say: (line) => t.log(line),
  });
  t.teardown(() => lab.close());
  try {
    const vm = await lab.startFrontend(0);
    const result = await lab.writeFiles(0, MIB);
    const { files, read, errors, bytesWritten, bytesRead, seconds } = result;
    t.log(
      `written ${bytesWritten} bytes in ${seconds.write} s, read ${bytesRead} bytes in ${seconds.read} s, errors ${errors}`,
    );
    t.deepEqual(read, files);
    t.is(errors, 0);
    t.true(bytesWritten >= MIB * 2 ** 20);
    t.true(bytesRead >= MIB * 2 ** 20, 'not from a cache');
    t.is(await vm.powerOff(), 'status 0');

    // The appliance's disk, seen from outside.
    await runCommand('e2fsck', ['-f', '-n', lab.disk(0)], { timeout: 120_000 });
    for (const line of files) {
      const [sum, name = ''] = line.split(/ +/);
      const copy = join(folder.path, 'copy');
      await runCommand('debugfs', ['-R', `dump /${name} ${copy}`, lab.disk(0)]);
      t.is((await runCommand('sha256sum', [copy])).split(' ')[0], sum, name);
    }
    t.log(`${((Date.now() - began) / 1000).toFixed(1)} s in all`);
  } catch (error) {
    t.log(await lab.appliance.log());
    throw error;
  }
});
