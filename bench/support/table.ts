import type { Latency } from './latency.js';

/** Prints rows below a header, the first column to the left and numbers to the right. */
export function printTable(header: readonly string[], rows: readonly (readonly string[])[]): void {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  for (const row of all) {
    const cells = row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
    );
    console.log(`  ${cells.join('   ')}`);
  }
}

/** Three significant digits, without exponents. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return '-';
  return Number(value.toPrecision(3)).toLocaleString('en-US', { maximumFractionDigits: 3 });
}

export function printLatencies(latencies: readonly Latency[]): void {
  printTable(
    ['', 'median us', 'p99 us', 'median ratio', 'p99 ratio'],
    latencies.map(({ name, median, p99, medianRatio, p99Ratio }) => [
      name,
      ...[median, p99, medianRatio, p99Ratio].map(digits),
    ]),
  );
}
