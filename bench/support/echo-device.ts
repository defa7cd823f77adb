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
  /** Lets the backend poll while `body` runs, and sleep otherwise, out of the way of others. */
  polling<T>(body: () => Promise<T>): Promise<T>;
}

export async function startEchoDevice(scope: Scope, kind: WindowKind): Promise<EchoDevice> {
  const device = await startDevice(scope, kind.window);
  const how = kind.remap ? 'remap' : 'trapped';
  const backend = await Child.worker(scope, 'echo-backend', [device.vfioUser, how]);
  return {
    vhostUser: device.vhostUser,
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
