import { join } from 'node:path';
import { DeviceProcess } from '../../src/cli/demo/device-process.js';
import { ANSWERING_CPU, pin } from './pin.js';
import type { Scope } from './scope.js';

/** A `vvu device` in a process of its own, and its sockets. */
export interface Device {
  readonly vfioUser: string;
  readonly vhostUser: string;
  readonly pid: number;
}

/** Starts `vvu device`, and ends it with the scope or this process. */
export async function startProcess(scope: Scope, args: readonly string[]): Promise<DeviceProcess> {
  const device = await DeviceProcess.start([...args, '--log-level', 'warn']);
  scope.deferBeyondExit(
    () => process.kill(device.pid, 'SIGKILL'),
    () => device.stop(),
  );
  return device;
}

/** One device on one CPU. @param window value of `--window` */
export async function startDevice(
  scope: Scope,
  window: string,
  cpu = ANSWERING_CPU,
): Promise<Device> {
  const folder = await scope.folder();
  const vfioUser = join(folder, 'vfio-user');
  const vhostUser = join(folder, 'vhost-user');
  const sockets = ['--vfio-user', vfioUser, '--vhost-user', vhostUser];
  const { pid } = await startProcess(scope, [...sockets, '--window', window]);
  pin(pid, cpu);
  return { vfioUser, vhostUser, pid };
}
