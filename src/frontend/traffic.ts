/** Echo traffic over all queue pairs of a frontend, in step with the event loop. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { VvuError } from '../errors.js';
import type { NetFrontend } from './net-frontend.js';

export interface TrafficOptions {
  /** Packets to send per queue pair. */
  readonly packets: number;
  /** Bytes per packet without the virtio-net header, 60..1514. Default 60. */
  readonly packetSize?: number;
  /** Most packets under way per queue pair. Default 128. */
  readonly window?: number;
  /** Give up when nothing came back for this long. Default 5,000 ms. */
  readonly stallMs?: number;
  /** Called in every turn; returning true ends the traffic early. */
  readonly onTurn?: () => boolean;
}

export interface TrafficResult {
  readonly sent: number;
  readonly received: number;
  readonly seconds: number;
}

const BATCH = 64;

/**
 * Sends packets and checks their echoes until all are back.
 * @throws VvuError `STALLED`, scope `peer`, when packets stay away
 */
export async function runTraffic(
  frontend: NetFrontend,
  options: TrafficOptions,
): Promise<TrafficResult> {
  const window = options.window ?? 128;
  const before = frontend.totals;
  const start = performance.now();
  const goals = frontend.pairs.map(({ counters }) => counters.sent + options.packets);
  for (const pair of frontend.pairs) pair.packetSize = options.packetSize ?? 0;
  let progress = start;
  for (;;) {
    let moved = 0;
    let done = true;
    for (const [index, pair] of frontend.pairs.entries()) {
      const left = (goals[index] ?? 0) - pair.counters.sent;
      moved += pair.collect(BATCH);
      const room = Math.min(left, window - pair.outstanding, BATCH);
      if (room > 0) moved += pair.send(room);
      if (left > 0 || pair.outstanding > 0) done = false;
    }
    if (done || options.onTurn?.() === true) break;
    const now = performance.now();
    if (moved > 0) progress = now;
    else if (frontend.closed || now - progress > (options.stallMs ?? 5000)) {
      const missing = frontend.pairs.map(({ outstanding }) => outstanding).join(', ');
      throw new VvuError('STALLED', 'peer', `packets not back, by queue pair: ${missing}`);
    }
    await nextTurn();
  }
  const after = frontend.totals;
  return {
    sent: after.sent - before.sent,
    received: after.received - before.received,
    seconds: (performance.now() - start) / 1000,
  };
}
