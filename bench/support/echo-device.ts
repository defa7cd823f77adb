import { readFileSync, readdirSync } from 'node:fs';
import { Child } from './children.js';
import { startDevice } from './device.js';
import type { Scope } from './scope.js';

/** How the frontend's memory gets into the backend's window. */
export interface WindowKind {
  readonly name: string;
  /** Value of `--window`. */
  readonly window: string;
  /** Whether the backend's client offers `region_remap`. */
  readonly remap: boolean;
}

/** A device and an echo backend behind it, each a process on the answering CPU. */
export interface EchoDevice {
  readonly vhostUser: string;
  /** Milliseconds that all threads of the device's process have run so far. */
  readonly cpuMs: () => number;
  /** Lets the backend poll while `body` runs, and sleep otherwise, out of the way of others. */
  polling<T>(body: () => Promise<T>): Promise<T>;
}

export async function startEchoDevice(scope: Scope, kind: WindowKind): Promise<EchoDevice> {
  const device = await startDevice(scope, kind.window);
  const how = kind.remap ? 'remap' : 'trapped';
  const backend = await Child.worker(scope, 'echo-backend', [device.vfioUser, how]);
  return {
    vhostUser: device.vhostUser,
    cpuMs: () => cpuMs(device.pid),
    polling: async (body) => {
      await backend.tell('go');
      try {
        return await body();
      } finally {
        await backend.tell('hold');
      }
    },
  };
}

function cpuMs(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  const nanoseconds = readdirSync(tasks).map((task) =>
    Number(readFileSync(`${tasks}/${task}/schedstat`, 'latin1').split(' ')[0]),
  );
  return nanoseconds.reduce((sum, one) => sum + one, 0) / 1e6;
}
