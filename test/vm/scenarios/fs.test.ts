import { available, declareTests } from '../../support/declare-tests.js';
import { temporaryFolder } from '../../support/temporary.js';
import { scenarioKits } from '../../support/vm-kit.js';
import { FsLab, SHARED, TAG } from './fs-lab.js';

// Two VMs: virtiofsd in the appliance shares a folder, which the Linux of the other one mounts.

const { value: kits, reason } = await available(scenarioKits);
const vmTest = declareTests(reason);

const MIB = 32;
const SUMS = `cd ${SHARED} && sha256sum noise copy`;
const LIST = `cd ${SHARED} && find . | sort && stat -c "%n %a %s" noise moved/below && readlink link`;

vmTest(`a VM mounts the folder that another VM shares, and writes ${MIB} MiB`, async (t) => {
  if (!kits) return;
  t.timeout(900_000);
  const began = Date.now();
  const folder = await temporaryFolder('fs', '/dev/shm');
  t.teardown(() => folder.remove());
  const lab = await FsLab.start(kits, {
    folder: folder.path,
    say: (line) => t.log(line),
  });
  t.teardown(() => lab.close());
  try {
    await lab.inAppliance(`echo of the appliance > ${SHARED}/appliance`);
    const dax = lab.inFrontend(`mount -t virtiofs -o dax ${TAG} ${SHARED}`);
    await t.throwsAsync(dax, { name: 'ProbeError' }, 'virtiofsd has no DAX window');
    await lab.mount();
    t.deepEqual(await lab.inFrontend(`cat ${SHARED}/appliance`), ['of the appliance']);

    await lab.inFrontend(`head -c ${MIB * 2 ** 20} /dev/urandom > /tmp/noise`);
    const [expected = ''] = await lab.inFrontend('sha256sum < /tmp/noise');
    const sum = expected.slice(0, 64);
    const writing = Date.now();
    await lab.inFrontend(`cd ${SHARED} && cp /tmp/noise noise && cp noise copy && sync`);
    const written = (Date.now() - writing) / 1000;
    t.deepEqual(await lab.inAppliance(SUMS), [`${sum}  noise`, `${sum}  copy`]);
    await lab.inFrontend('echo 3 > /proc/sys/vm/drop_caches');
    const reading = Date.now();
    t.deepEqual(await lab.inFrontend(SUMS), [`${sum}  noise`, `${sum}  copy`]);
    const read = (Date.now() - reading) / 1000;
    t.log(`${2 * MIB} MiB written in ${written} s, read in ${read} s`);

    const change = 'mkdir folder && echo deep > folder/below && mv folder moved && rm appliance';
    await lab.inFrontend(`cd ${SHARED} && ${change} && ln -s moved/below link && chmod 640 noise`);
    const seen = await lab.inFrontend(LIST);
    t.deepEqual(await lab.inAppliance(LIST), seen);
    t.false(seen.includes('./appliance'));
    t.is(seen.at(-1), 'moved/below');

    await lab.inFrontend(`umount ${SHARED}`);
    t.deepEqual(await lab.inFrontend('dmesg | grep -iE "fuse|virtiofs" | grep -i err || true'), []);
    await lab.show();
    t.deepEqual(await lab.inFrontend(`cat ${SHARED}/link`), ['deep']);
    await lab.inFrontend(`umount ${SHARED}`);
    t.is(await lab.frontend?.powerOff(), 'status 0');
    t.notRegex(
      lab.appliance.service(0).device.log,
      /request of the guest discarded|request refused/,
    );
    // It serves one connection.
    t.is(await lab.appliance.backend?.ended(), 0);
    t.log(`${((Date.now() - began) / 1000).toFixed(1)} s in all`);
  } catch (error) {
    t.log(await lab.appliance.log());
    throw error;
  }
});
