import { median } from './stats.js';
import { digits, printTable } from './table.js';

/** One way to move packets. */
export interface Mover {
  readonly name: string;
  /** Moves packets for a while. @returns packets per second */
  move(): Promise<number>;
  /** Milliseconds that the device's process has run so far, if there is one. */
  readonly cpuMs?: () => number;
}

/** No further round is begun after this time: a busy machine gets fewer of them. */
const BUDGET_MS = 12_000;

/** Runs all in turn, `rounds` times after a warm-up; ratios are to the first one in the same round. */
export async function compareRates(movers: readonly Mover[], rounds: number): Promise<void> {
  const rates: number[][] = movers.map(() => []);
  const shares: number[][] = movers.map(() => []);
  const end = performance.now() + BUDGET_MS;
  for (let round = -1; round < rounds; round++) {
    if (round > 0 && performance.now() > end) {
      console.log(`  (${round} of ${rounds} rounds: this machine is busy)`);
      break;
    }
    for (const [index, mover] of movers.entries()) {
      const [start, before] = [performance.now(), mover.cpuMs?.() ?? NaN];
      const rate = await mover.move();
      const share = ((mover.cpuMs?.() ?? NaN) - before) / (performance.now() - start);
      if (round < 0) continue;
      rates[index]?.push(rate);
      shares[index]?.push(share);
    }
  }
  const first = rates[0] ?? [];
  printTable(
    ['', 'packets/s', 'least', 'most', 'ratio', 'CPU of the device, %'],
    movers.map(({ name }, index) => {
      const own = rates[index] ?? [];
      const ratio = median(own.map((rate, round) => rate / (first[round] ?? NaN)));
      const share = 100 * median(shares[index] ?? []);
      return [name, ...[median(own), Math.min(...own), Math.max(...own), ratio, share].map(digits)];
    }),
  );
}
