import { native } from '../../src/native.js';
import { timeEach, type Contestant } from './latency.js';

/** A signal that takes longer than this is lost. */
const LOST_MS = 1000;

/** Time from `ring` until the eventfd `seen` is signalled, by a thread that looks all the time. */
export function untilSignalled(
  name: string,
  ring: () => void,
  seen: number,
  prepare?: () => void,
): Contestant {
  return {
    name,
    sample: (count) => {
      native.readEventFd(seen);
      const operation = (): void => {
        ring();
        const lost = performance.now() + LOST_MS;
        while (native.readEventFd(seen) === 0) {
          if (performance.now() > lost) throw new Error(`${name}: a signal is lost`);
        }
      };
      return timeEach(count, operation, prepare);
    },
  };
}
