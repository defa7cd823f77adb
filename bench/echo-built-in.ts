import { join } from 'node:path';
import { NetFrontend } from '../src/frontend/net-frontend.js';
import type { RamOptions } from '../src/frontend/ram.js';
import { runTraffic } from '../src/frontend/traffic.js';
import { startEchoDevice, type WindowKind } from './support/echo-device.js';
import { pinSelf } from './support/pin.js';
import type { Mover } from './support/rates.js';
import type { Scope } from './support/scope.js';

const MILLISECONDS = 300;
const RAM_MIB = 16;

/** The frontend in this process, which polls its rings. */
async function mover(scope: Scope, kind: WindowKind, ram: RamOptions): Promise<Mover> {
  const device = await startEchoDevice(scope, kind);
  const frontend = NetFrontend.connect(device.vhostUser, { ram, ramBytes: RAM_MIB * 2 ** 20 });
  scope.defer(() => frontend.close());
  await device.polling(() => frontend.start());
  return {
    name: kind.name,
    cpuMs: device.cpuMs,
    move: () =>
      device.polling(async () => {
        const end = performance.now() + MILLISECONDS;
        const onTurn = (): boolean => performance.now() > end;
        const { received, seconds } = await runTraffic(frontend, { packets: Infinity, onTurn });
        // What is still under way must not be there in the next round.
        await runTraffic(frontend, { packets: 0 });
        return received / seconds;
      }),
  };
}

export async function builtInMovers(scope: Scope): Promise<Mover[]> {
  const path = join(await scope.folder(), 'ram');
  const preset = `path=${path},size=${RAM_MIB}M`;
  const movers = [
    await mover(scope, { name: 'mapped (region_remap)', window: 'size=64M', remap: true }, {}),
    await mover(scope, { name: 'mapped (preset file)', window: preset, remap: false }, { path }),
    await mover(scope, { name: 'trapped', window: 'size=64M', remap: false }, {}),
  ];
  pinSelf(scope);
  return movers;
}
