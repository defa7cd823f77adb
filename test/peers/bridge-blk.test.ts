import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { available, declareTests } from '../support/declare-tests.js';
import { ensurePackages } from '../support/packages.js';
import { startStorageDaemon } from '../support/storage-daemon.js';
import { temporaryFolder } from '../support/temporary.js';
import { vmKit } from '../support/vm-kit.js';
import { VvuProcess } from '../support/vvu-process.js';
import { vhostUserArguments } from '../vm/qemu-arguments.js';
import { Vm } from '../vm/qemu.js';

/*
 * Debian's qemu-storage-daemon, unmodified, is the backend behind `vvu bridge`: a vhost-user-blk
 * export. The frontend is an unpatched QEMU whose Linux guest writes to the disk and reads it back.
 */
const missing = await ensurePackages(['qemu-system-common']);
const { value: kit, reason } = await available(vmKit);
const blkTest = declareTests(missing ?? reason);

const MIB = 256;
/** The guest's RAM is smaller than what it writes, and the caches are dropped besides. */
const MEMORY = '192M';
const GUEST_TIMEOUT = 120_000;

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path)) hash.update(part as Buffer);
  return hash.digest('hex');
}

for (const preset of [false, true]) {
  const how = preset ? 'its RAM is the preset file' : 'mapped at run time';

  blkTest(
    `a QEMU guest writes ${MIB} MiB to qemu-storage-daemon and reads them, ${how}`,
    async (t) => {
      if (!kit) return;
      const folder = await temporaryFolder('blk', '/dev/shm');
      t.teardown(() => folder.remove());
      const place = (name: string): string => join(folder.path, name);
      await writeFile(place('disk'), '');
      await truncate(place('disk'), MIB * 2 ** 20);

      const sockets = ['--vfio-user', place('vfio-user'), '--vhost-user', place('vhost-user')];
      const window = preset ? `path=${place('ram')},size=${MEMORY}` : 'size=256M';
      const device = await VvuProcess.start(['device', ...sockets, '--window', window]);
      t.teardown(() => device.kill());
      const daemon = await startStorageDaemon(place('disk'), place('backend'));
      t.teardown(async () => {
        if (daemon.kill('SIGKILL')) await once(daemon, 'exit');
      });
      const source = ['--device', `vfio-user:${place('vfio-user')}`];
      const bridge = await VvuProcess.start(['bridge', ...source, '--socket', place('backend')]);
      t.teardown(() => bridge.kill());

      const vm = await Vm.start(kit, {
        memory: { size: MEMORY, ...(preset && { path: place('ram') }) },
        args: vhostUserArguments('vhost-user-blk-pci', place('vhost-user')),
      });
      t.teardown(() => vm.close());
      await vm.shell('modprobe -a virtio_pci virtio_blk');
      const [sectors] = await vm.shell('cat /sys/block/vda/size');
      t.is(Number(sectors) * 512, MIB * 2 ** 20);

      // 16 MiB of noise, with a number before each copy so that no two blocks of the disk are alike.
      await vm.shell('head -c 16777212 /dev/urandom > /noise', GUEST_TIMEOUT);
      const stream = `for i in $(seq -w 100 ${99 + MIB / 16}); do echo $i; cat /noise; done`;
      const started = Date.now();
      await vm.shell(`(${stream}) | dd of=/dev/vda bs=1M iflag=fullblock`, GUEST_TIMEOUT);
      await vm.shell('sync; echo 3 > /proc/sys/vm/drop_caches', GUEST_TIMEOUT);
      const writing = Date.now() - started;
      const [written = ''] = await vm.shell(`(${stream}) | sha256sum`, GUEST_TIMEOUT);
      const reading = Date.now();
      const [read = ''] = await vm.shell('dd if=/dev/vda bs=1M | sha256sum', GUEST_TIMEOUT);
      t.log(`written in ${writing} ms, read in ${Date.now() - reading} ms: ${read}`);
      t.is(read, written);
      t.is(await hashFile(place('disk')), read.slice(0, 64));
      t.is(await vm.powerOff(), 'status 0');
      await bridge.until(() => bridge.log.includes('frontend left'), 'the end of the connection');
    },
  );
}
