import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { circulate } from '../src/frontend/testpmd-traffic.js';
import { memoryFile, Testpmd, type Memory } from '../src/frontend/testpmd.js';
import { reserveHugepages } from '../test/support/hugepages.js';
import { startEchoDevice, type WindowKind } from './support/echo-device.js';
import { ANSWERING_CPU, MEASURING_CPU, pin } from './support/pin.js';
import type { Mover } from './support/rates.js';
import type { Scope } from './support/scope.js';

const MILLISECONDS = 300;
const MEMFD: Memory = { kind: 'memfd', mib: 128 };
const HUGE_MIB = 64;

async function rate(frontend: Testpmd): Promise<number> {
  const { received, seconds } = await circulate(frontend, { milliseconds: MILLISECONDS });
  return received / seconds;
}

/** virtio-user as the frontend of our device. */
async function mover(scope: Scope, kind: WindowKind, memory: Memory): Promise<Mover> {
  const device = await startEchoDevice(scope, kind);
  const frontend = Testpmd.frontend({ socket: device.vhostUser, server: false, memory });
  // Its end waits for the backend's answers, too.
  scope.defer(() => device.polling(() => frontend.stop()));
  await device.polling(async () => {
    await frontend.ready();
    await frontend.link(true);
  });
  pin(frontend.pid, MEASURING_CPU);
  return { name: kind.name, cpuMs: device.cpuMs, move: () => device.polling(() => rate(frontend)) };
}

/** The peer: virtio-user with DPDK's own backend, the vhost PMD, and nothing between them. */
async function peer(scope: Scope): Promise<Mover> {
  const socket = join(await scope.folder(), 'vhost-user');
  const backend = Testpmd.backend({ socket, server: true });
  scope.defer(() => backend.stop());
  while (!existsSync(socket)) await sleep(10);
  const frontend = Testpmd.frontend({ socket, server: false, memory: MEMFD });
  scope.defer(() => frontend.stop());
  await Promise.all([frontend.ready(), backend.ready()]);
  // Two pollers on one CPU would take turns of milliseconds.
  pin(frontend.pid, MEASURING_CPU);
  pin(backend.pid, ANSWERING_CPU);
  return {
    name: "peer: DPDK's vhost backend, no device",
    move: async () => {
      await backend.echo();
      const packets = await rate(frontend);
      await backend.command('stop');
      return packets;
    },
  };
}

export async function dpdkMovers(scope: Scope): Promise<Mover[]> {
  const pages = reserveHugepages(HUGE_MIB);
  scope.defer(() => pages.release());
  const file = { kind: 'file', mib: HUGE_MIB, dir: pages.dir, prefix: 'vvu' } as const;
  const preset = `path=${memoryFile(file)},size=${HUGE_MIB}M`;
  return [
    await peer(scope),
    await mover(scope, { name: 'mapped (region_remap)', window: 'size=1G', remap: true }, MEMFD),
    await mover(scope, { name: 'mapped (preset file)', window: preset, remap: false }, file),
    await mover(scope, { name: 'trapped', window: 'size=1G', remap: false }, MEMFD),
  ];
}
