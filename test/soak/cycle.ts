import { join } from 'node:path';
import { NetEcho } from '../../src/backends/net-echo.js';
import { NetFrontend } from '../../src/frontend/net-frontend.js';
import { runTraffic } from '../../src/frontend/traffic.js';
import { VhostUserBackend } from '../../src/guest/backend.js';
import { VvuDriver } from '../../src/guest/driver.js';
import { PollLoop } from '../../src/guest/poll-loop.js';
import { Machine, type MachineKinds } from '../support/machine.js';
import { MachineAccess } from '../support/machine-access.js';

/** One after the other, so that every port has its share of the cycles. */
const KINDS: readonly MachineKinds[] = [
  { memory: 'segments', window: 'mapped', interrupts: 'eventfd', doorbells: 'ioeventfd' },
  { memory: 'accessor', window: 'trapped' },
  { memory: 'segments', window: 'trapped', interrupts: 'eventfd' },
  { memory: 'accessor', window: 'mapped', doorbells: 'ioeventfd' },
];
const RING = 64;

/**
 * A device is made, a frontend sends packets through a backend behind it, and everything is closed;
 * in every other cycle the frontend is still there when the device is closed.
 * @returns how many packets came back
 */
export async function cycle(folder: string, number: number, packets: number): Promise<number> {
  const path = join(folder, 'vhost-user');
  const machine = new Machine(path, KINDS[number % KINDS.length]!);
  const access = new MachineAccess(machine);
  const driver = new VvuDriver(access, { interrupts: true });
  const echo = new NetEcho(1);
  new VhostUserBackend(driver, echo);
  driver.start();
  driver.kick(0);
  driver.kick(1);
  const loop = new PollLoop([driver, echo]);
  const frontend = NetFrontend.connect(path, { ringSize: RING });
  try {
    await frontend.start();
    const { received } = await runTraffic(frontend, { packets, window: RING });
    if (number % 8 < 4) await frontend.stop();
    return received;
  } finally {
    if (number % 2 === 0) frontend.close();
    await loop.stop();
    await machine.close();
    frontend.close();
    if (machine.errors.length > 0) throw new AggregateError(machine.errors, 'ports failed');
  }
}
