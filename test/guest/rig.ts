import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { NetEcho } from '../../src/backends/net-echo.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { DeviceProcess } from '../../src/cli/demo/device-process.js';
import { NetFrontend, type FrontendOptions } from '../../src/frontend/net-frontend.js';
import { runTraffic } from '../../src/frontend/traffic.js';
import type { BackendDevice } from '../../src/guest/backend-device.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver, type DriverOptions } from '../../src/guest/driver.js';
import { VfioUserPciAccess, type VfioUserAccessOptions } from '../../src/guest/vfio-user-access.js';

/** The folder of a test, gone after it. */
export function testDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'vvu-guest-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface RigOptions {
  readonly device?: readonly string[];
  readonly access?: VfioUserAccessOptions;
  readonly driver?: DriverOptions;
  readonly queuePairs?: number;
  readonly directory?: string;
  /** In place of a plain echo. */
  readonly echo?: NetEcho & BackendDevice;
}

/** A `vvu device` in a process of its own, and a driver with an echo backend in this one. */
export interface Rig {
  readonly process: DeviceProcess;
  readonly vhostUser: string;
  readonly vfioUser: string;
  readonly access: VfioUserPciAccess;
  readonly driver: VvuDriver;
  readonly backend: VhostUserBackend;
  readonly echo: NetEcho;
  readonly loop: PollLoop;
  readonly connect: (options?: FrontendOptions) => NetFrontend;
}

export async function startRig(t: ExecutionContext, options: RigOptions = {}): Promise<Rig> {
  const directory = options.directory ?? testDirectory(t);
  const vfioUser = join(directory, 'vfio-user');
  const vhostUser = join(directory, 'vhost-user');
  const process = await DeviceProcess.start([
    ...['--vfio-user', vfioUser, '--vhost-user', vhostUser, '--log-level', 'debug'],
    ...(options.device ?? ['--window', 'size=64M']),
  ]);
  t.teardown(() => process.stop());
  const access = await VfioUserPciAccess.connect(vfioUser, options.access);
  t.teardown(() => access.close());
  const driver = new VvuDriver(access, options.driver);
  const queuePairs = options.queuePairs ?? 1;
  const echo = options.echo ?? new NetEcho(queuePairs);
  const backend = new VhostUserBackend(driver, echo);
  driver.start();
  const loop = new PollLoop([driver, echo]);
  loop.ended.catch(() => undefined);
  t.teardown(() => loop.stop().catch(() => undefined));
  return {
    ...{ process, vhostUser, vfioUser, access, driver, backend, echo, loop },
    connect: (frontendOptions = {}) => {
      const frontend = NetFrontend.connect(vhostUser, { queuePairs, ...frontendOptions });
      t.teardown(() => frontend.close());
      return frontend;
    },
  };
}

/** Sends packets per queue pair and asserts that each came back, in order and unchanged. */
export async function assertEchoes(
  t: ExecutionContext,
  frontend: NetFrontend,
  packets: number,
  packetSize = 60,
): Promise<void> {
  const before = frontend.totals;
  await runTraffic(frontend, { packets, packetSize });
  const after = frontend.totals;
  const count = packets * frontend.pairs.length;
  t.deepEqual(after, {
    sent: before.sent + count,
    received: before.received + count,
    bytes: before.bytes + count * packetSize,
    reordered: 0,
    corrupt: 0,
  });
}

/** Open file descriptors of a process. */
export function openFds(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
