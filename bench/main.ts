import { availableParallelism, cpus, loadavg, release } from 'node:os';
import { errorMessage } from '../src/errors.js';
import type { Benchmark } from './benchmark.js';
import { deviceMemory } from './device-memory.js';
import { dmaMap } from './dma-map.js';
import { doorbell } from './doorbell.js';
import { echo } from './echo.js';
import { kick } from './kick.js';
import { register } from './register.js';
import { Scope } from './support/scope.js';

const benchmarks: readonly Benchmark[] = [register, kick, doorbell, echo, dmaMap, deviceMemory];

async function run({ name, what, run }: Benchmark): Promise<void> {
  console.log(`\n${name}: ${what}`);
  const started = performance.now();
  await Scope.run(run);
  console.log(`  (${((performance.now() - started) / 1000).toFixed(1)} s)`);
}

/** What the numbers depend on; a load means that others disturb them. */
function machine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown CPU';
  const load = (loadavg()[0] ?? 0).toFixed(1);
  const count = availableParallelism();
  return `${count} x ${model}, Linux ${release()}, Node.js ${process.version}, load ${load}`;
}

/** `main.js [NAME...]` runs the named benchmarks, or all. */
async function main(names: readonly string[]): Promise<void> {
  const unknown = names.find((name) => !benchmarks.some((one) => one.name === name));
  if (unknown !== undefined) {
    const known = benchmarks.map(({ name }) => name).join(', ');
    throw new Error(`there is no benchmark '${unknown}', only ${known}`);
  }
  console.log(machine());
  for (const benchmark of benchmarks) {
    if (names.length === 0 || names.includes(benchmark.name)) await run(benchmark);
  }
}

// Children and files go with this process: see Scope.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`bench: ${errorMessage(error)}\n`);
  process.exitCode = 1;
});
