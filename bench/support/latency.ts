import { median, quantile } from './stats.js';

/** One way to do an operation, compared with others in the same run. */
export interface Contestant {
  readonly name: string;
  /** Does the operation up to `count` times. @returns the microseconds of each */
  sample(count: number): readonly number[] | Promise<readonly number[]>;
}

/** Medians over the rounds; ratios are to the first contestant in the same round. */
export interface Latency {
  readonly name: string;
  /** Microseconds. */
  readonly median: number;
  readonly p99: number;
  readonly medianRatio: number;
  readonly p99Ratio: number;
}

export interface Plan {
  readonly rounds: number;
  readonly samples: number;
}

interface Round {
  readonly median: number;
  readonly p99: number;
}

/**
 * Runs all contestants in turn, several times, after one round that only warms up: whatever else the
 * machine does meets all of them, and the medians over rounds forget a round that it spoiled.
 */
export async function compare(contestants: readonly Contestant[], plan: Plan): Promise<Latency[]> {
  const rounds: Round[][] = contestants.map(() => []);
  for (let round = -1; round < plan.rounds; round++) {
    for (const [index, contestant] of contestants.entries()) {
      const times = await contestant.sample(plan.samples);
      if (round >= 0) rounds[index]?.push({ median: median(times), p99: quantile(times, 0.99) });
    }
  }
  const floor = rounds[0] ?? [];
  return contestants.map(({ name }, index) => {
    const own = rounds[index] ?? [];
    const over = (key: keyof Round): number => median(own.map((one) => one[key]));
    const ratio = (key: keyof Round): number =>
      median(own.map((one, round) => one[key] / (floor[round]?.[key] ?? NaN)));
    return {
      name,
      median: over('median'),
      p99: over('p99'),
      medianRatio: ratio('median'),
      p99Ratio: ratio('p99'),
    };
  });
}

/**
 * Pause between two operations, so that whoever answers has gone to sleep before each: in a loop
 * without it a slow answerer is still awake, and looks faster than a quick one that has to be woken.
 */
const PAUSE_MS = 0.05;

/** A round ends here, also with fewer samples than wanted: on a busy machine each takes longer. */
export const ROUND_MS = 150;

/** Keeps this thread busy, so that it is not the one that has to wake up. */
function pause(): void {
  const end = performance.now() + PAUSE_MS;
  while (performance.now() < end);
}

/** Microseconds of each of up to `count` calls, with a pause and `prepare` before each. */
export function timeEach(
  count: number,
  operation: () => void,
  prepare: () => void = () => undefined,
): number[] {
  const times: number[] = [];
  const end = performance.now() + ROUND_MS;
  do {
    pause();
    prepare();
    const start = performance.now();
    operation();
    times.push((performance.now() - start) * 1000);
  } while (times.length < count && performance.now() < end);
  return times;
}
