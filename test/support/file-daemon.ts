import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { until } from './until.js';

/**
 * Debian 12's virtiofsd (package qemu-system-common) shares a folder over vhost-user-fs; resolves
 * when `socket` is there. It ends with this process.
 */
export async function startFileDaemon(folder: string, socket: string): Promise<ChildProcess> {
  const args = ['--pdeathsig', 'KILL', '--', '/usr/lib/qemu/virtiofsd', '-f'];
  args.push(`--socket-path=${socket}`, '-o', `source=${folder}`, '-o', 'sandbox=chroot');
  const child = spawn('setpriv', args, { stdio: ['ignore', 'ignore', 'inherit'] });
  await until(() => existsSync(socket), 'virtiofsd');
  return child;
}
