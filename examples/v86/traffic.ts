import { NetFrontend } from '../../src/frontend/net-frontend.js';
import type { NetCounters } from '../../src/frontend/net-queue.js';
import { runTraffic } from '../../src/frontend/traffic.js';

/** The emulator shares this thread with the frontend: replies take their time. */
const TIMEOUT_MS = 60_000;

/** How a visit to the device ends: with the rings stopped, or with the connection just dropped. */
export type Ending = 'stop' | 'drop';

/**
 * Connects a frontend to the device's socket, sends packets, and checks what comes back.
 * @throws VvuError when replies or packets stay away
 */
export async function exchange(
  socket: string,
  packets: number,
  ending: Ending = 'stop',
): Promise<NetCounters> {
  const frontend = NetFrontend.connect(socket, { ringSize: 64, timeoutMs: TIMEOUT_MS });
  try {
    await frontend.start();
    await runTraffic(frontend, { packets, window: 32, stallMs: TIMEOUT_MS });
    if (ending === 'stop') await frontend.stop();
    return frontend.totals;
  } finally {
    frontend.close();
  }
}
