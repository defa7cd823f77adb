import { median } from './stats.js';
import { digits, printTable } from './table.js';

/** One way to move packets. */
export interface Mover {
  readonly name: string;
  /** Moves packets for a while. @returns packets per second */
  move(): Promise<number>;
}

/** No further round is begun after this time: a busy machine gets fewer of them. */
const BUDGET_MS = 12_000;

/** Runs all in turn, `rounds` times after a warm-up; ratios are to the first one in the same round. */
export async function compareRates(movers: readonly Mover[], rounds: number): Promise<void> {
  const rates: number[][] = movers.map(() => []);
  const end = performance.now() + BUDGET_MS;
  for (let round = -1; round < rounds; round++) {
    if (round > 0 && performance.now() > end) {
      console.log(`  (${round} of ${rounds} rounds: this machine is busy)`);
      break;
    }
    for (const [index, mover] of movers.entries()) {
      const rate = await mover.move();
      if (round >= 0) rates[index]?.push(rate);
    }
  }
  const first = rates[0] ?? [];
  printTable(
    ['', 'packets/s', 'least', 'most', 'ratio'],
    movers.map(({ name }, index) => {
      const own = rates[index] ?? [];
      const ratio = median(own.map((rate, round) => rate / (first[round] ?? NaN)));
      return [name, ...[median(own), Math.min(...own), Math.max(...own), ratio].map(digits)];
    }),
  );
}
