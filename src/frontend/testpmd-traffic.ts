import { setTimeout as sleep } from 'node:timers/promises';
import { count, type PortStats, type Testpmd } from './testpmd.js';

/** Packets per `tx_first` burst and queue. */
const BURST = 32;

export interface Traffic {
  readonly sent: number;
  readonly received: number;
  /** `sent - received`, after the last packet under way has been given its time. */
  readonly lost: number;
  /** Packets that testpmd itself threw away, because its transmit ring was full. */
  readonly dropped: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** How long packets were sent; not the wait for the last ones. */
  readonly seconds: number;
}

/**
 * Send `bursts` times 32 packets per queue, forward them again each time the peer returns them,
 * for a while, then stop sending and take in those under way. The peer must return every packet
 * on the queue pair that it came on. Exact counts at any speed of the peer, as long as the
 * packets fit a ring: at most 8 bursts for the default 256 entries; the default leaves it half empty.
 */
export async function circulate(
  port: Testpmd,
  options: { readonly milliseconds: number; readonly bursts?: number },
): Promise<Traffic> {
  const before = await port.stats();
  await port.command('set fwd io');
  const started = performance.now();
  await port.command(`start tx_first ${String(options.bursts ?? 4)}`);
  await sleep(options.milliseconds);
  const stopped = await port.command('stop');
  const seconds = (performance.now() - started) / 1000;
  const dropped = count(stopped.slice(stopped.lastIndexOf('Accumulated')), 'TX-dropped');
  await port.command('set fwd rxonly');
  await port.command('start');
  return { ...(await drain(port, before)), dropped, seconds };
}

/** Send `bursts` times 32 packets per queue once, and count what the peer returns. */
export async function exchange(port: Testpmd, bursts = 4): Promise<Traffic> {
  const before = await port.stats();
  await port.command('set fwd rxonly');
  const started = performance.now();
  await port.command(`start tx_first ${String(bursts)}`);
  const seconds = (performance.now() - started) / 1000;
  const traffic = await drain(port, before);
  return { ...traffic, dropped: bursts * BURST * port.queues - traffic.sent, seconds };
}

/** Receive until all that was sent is back, or nothing has come for a second; then stop. */
async function drain(
  port: Testpmd,
  before: PortStats,
): Promise<Omit<Traffic, 'dropped' | 'seconds'>> {
  let now = await port.stats();
  let progress = Date.now();
  const lost = (): number => now.txPackets - before.txPackets - now.rxPackets + before.rxPackets;
  while (lost() > 0 && Date.now() - progress < 1000) {
    await sleep(20);
    const next = await port.stats();
    if (next.rxPackets > now.rxPackets) progress = Date.now();
    now = next;
  }
  await port.command('stop');
  return {
    sent: now.txPackets - before.txPackets,
    received: now.rxPackets - before.rxPackets,
    lost: lost(),
    sentBytes: now.txBytes - before.txBytes,
    receivedBytes: now.rxBytes - before.rxBytes,
  };
}
