import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { until } from './until.js';

/**
 * Debian's qemu-storage-daemon (package qemu-system-common) exports a raw file as vhost-user-blk;
 * resolves when `socket` is there. It ends with this process.
 */
export async function startStorageDaemon(
  disk: string,
  socket: string,
  queues = 1,
): Promise<ChildProcess> {
  const file = `driver=file,node-name=disk,filename=${disk},cache.direct=off`;
  const address = `addr.type=unix,addr.path=${socket}`;
  const args = ['--pdeathsig', 'KILL', '--', 'qemu-storage-daemon', '--blockdev', file];
  const queued = `writable=on,num-queues=${queues}`;
  args.push('--export', `type=vhost-user-blk,id=export,node-name=disk,${queued},${address}`);
  const child = spawn('setpriv', args, { stdio: ['ignore', 'ignore', 'inherit'] });
  await until(() => existsSync(socket), 'qemu-storage-daemon');
  return child;
}
