import { native } from '../../src/native.js';
import { pause, type Contestant } from './latency.js';

/** A signal that takes longer than this is lost. */
const LOST_MS = 1000;

/** Time from `ring` until the eventfd `seen` is signalled, by a thread that looks all the time. */
export function untilSignalled(name: string, ring: () => void, seen: number): Contestant {
  return {
    name,
    sample: (count) => {
      const times = new Float64Array(count);
      native.readEventFd(seen);
      for (let i = 0; i < count; i++) {
        pause();
        const start = performance.now();
        ring();
        while (native.readEventFd(seen) === 0) {
          if (performance.now() - start > LOST_MS) throw new Error(`${name}: a signal is lost`);
        }
        times[i] = (performance.now() - start) * 1000;
      }
      return times;
    },
  };
}
