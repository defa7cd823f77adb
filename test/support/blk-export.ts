import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ExecutionContext } from 'ava';
import { LineSocket } from '../vm/line-socket.js';
import { Qmp } from '../vm/qmp.js';
import type { RootedCommand } from './qemu-root.js';

/**
 * A QEMU without a machine that exports a raw file as vhost-user-blk at `socket`, with its machine
 * protocol; the file's node is called `disk`. It ends with the test.
 */
export async function startBlkExport(
  t: ExecutionContext,
  qemu: RootedCommand,
  disk: string,
  socket: string,
): Promise<Qmp> {
  const monitor = `${socket}.monitor`;
  const port = await LineSocket.listen(monitor);
  const qmp = new Qmp(port);
  const file = `driver=file,node-name=disk,filename=${disk}`;
  const machine = ['-machine', 'none', '-nodefaults', '-display', 'none'];
  const args = [...machine, '-blockdev', file, '-qmp', `unix:${monitor}`];
  const command = ['--pdeathsig', 'KILL', '--', qemu.file, ...qemu.args, ...args];
  const child = spawn('setpriv', command, {
    env: qemu.env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  t.teardown(async () => {
    port.close();
    if (child.kill('SIGKILL')) await once(child, 'exit');
  });
  await qmp.negotiate(60_000);
  await qmp.execute('block-export-add', {
    ...{ type: 'vhost-user-blk', id: 'export', 'node-name': 'disk', writable: true },
    addr: { type: 'unix', path: socket },
  });
  return qmp;
}
