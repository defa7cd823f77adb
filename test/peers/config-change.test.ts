import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { available, declareTests } from '../support/declare-tests.js';
import { startBlkExport } from '../support/blk-export.js';
import { temporaryFolder } from '../support/temporary.js';
import { vmKit } from '../support/vm-kit.js';
import { VvuProcess } from '../support/vvu-process.js';
import { deviceArguments } from '../vm/qemu-arguments.js';
import { Vm } from '../vm/qemu.js';

/*
 * QEMU's vhost-user-blk export resizes its disk and says so by BACKEND_CONFIG_CHANGE_MSG. That
 * passes from its back-end channel through `vvu bridge` and `vvu device` to another QEMU, whose
 * guest sees the new size.
 */
const { value: kit, reason } = await available(vmKit);
const resizeTest = declareTests(reason);

const MIB = 2 ** 20;

async function diskBytes(vm: Vm): Promise<number> {
  const [sectors] = await vm.shell('cat /sys/block/vda/size');
  return Number(sectors) * 512;
}

resizeTest('a guest sees that the backend has resized its disk', async (t) => {
  if (!kit) return;
  const folder = await temporaryFolder('resize');
  t.teardown(() => folder.remove());
  const place = (name: string): string => join(folder.path, name);
  await writeFile(place('disk'), '');
  await truncate(place('disk'), 16 * MIB);

  const sockets = ['--vfio-user', place('vfio-user'), '--vhost-user', place('vhost-user')];
  const device = await VvuProcess.start(['device', ...sockets, '--window', 'size=512M']);
  t.teardown(() => device.kill());
  const backend = await startBlkExport(t, kit.qemu, place('disk'), place('backend'));
  const source = ['--device', `vfio-user:${place('vfio-user')}`, '--log-level', 'trace'];
  const bridge = await VvuProcess.start(['bridge', ...source, '--socket', place('backend')]);
  t.teardown(() => bridge.kill());
  const vm = await Vm.start(kit, {
    args: [
      ...['-chardev', `socket,id=blk,path=${place('vhost-user')}`],
      ...deviceArguments('vhost-user-blk-pci', { chardev: 'blk' }),
    ],
  });
  t.teardown(() => vm.close());
  await vm.shell('modprobe -a virtio_pci virtio_blk');
  t.is(await diskBytes(vm), 16 * MIB);

  await backend.execute('block_resize', { 'node-name': 'disk', size: 48 * MIB });
  for (let tries = 0; tries < 100 && (await diskBytes(vm)) !== 48 * MIB; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  t.is(await diskBytes(vm), 48 * MIB);
  t.regex(bridge.log, /BACKEND_CONFIG_CHANGE_MSG/);
  // What was not there before can be written and read.
  await vm.shell('echo beyond | dd of=/dev/vda bs=1M seek=40 conv=sync,fsync');
  await vm.shell('echo 3 > /proc/sys/vm/drop_caches');
  await vm.shell('dd if=/dev/vda bs=1M skip=40 count=1 | grep -q beyond');
  t.is(await vm.powerOff(), 'status 0');
});
