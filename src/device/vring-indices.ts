import type { AuxiliaryIndices } from '../virtio/ports.js';
import type { Kicks } from './kicks.js';
import { NO_VECTOR } from './ports.js';

/** The device's own virtqueues, rxq and txq, have the first indices. */
const FIRST = 2;

/**
 * The queue indices of draft 5 (5.14.7.5, 5.14.7.6), with N = max_vhost_queues: 2i + 2 is the call
 * doorbell of vring i and the vector of its kick, 2i + 3 its err doorbell, 2(N + 1) the log doorbell.
 *
 * Their registers lie behind those of rxq and txq in the order of the doorbells of capability 6
 * (call, log, err): it is up to the device what queue_notify_off says, and so both are the same.
 */
export class VringIndices implements AuxiliaryIndices {
  constructor(private readonly kicks: Kicks) {}

  notifyOff(index: number): number | undefined {
    const vrings = this.kicks.count;
    const log = FIRST + vrings;
    if (index === FIRST * (vrings + 1)) return log;
    const vring = (index - FIRST) >> 1;
    if (index < FIRST || vring >= vrings) return undefined;
    return index % 2 === 0 ? FIRST + vring : log + 1 + vring;
  }

  vector(index: number): number {
    const vring = kickOf(index);
    return vring === undefined ? NO_VECTOR : this.kicks.vector(vring);
  }

  setVector(index: number, vector: number): void {
    const vring = kickOf(index);
    if (vring !== undefined) this.kicks.setVector(vring, vector);
  }
}

/** The vring whose kick an index stands for; vrings that do not exist are the callers' to ignore. */
function kickOf(index: number): number | undefined {
  return index >= FIRST && index % 2 === 0 ? (index - FIRST) / 2 : undefined;
}
