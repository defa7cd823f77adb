/**
 * In-process devices are made, used and closed, many times over: `npm run soak [-- CYCLES]`. Prints
 * what the process holds as it goes, and fails when it ends with more than it had after three tenths
 * of the cycles.
 */
import { temporaryFolder } from '../support/temporary.js';
import { cycle } from './cycle.js';
import { usage, type Usage } from './usage.js';

const CYCLES = Number(process.argv[2] ?? 10_000);
const PACKETS = 20;
const SAMPLES = 10;
/** The sample with which the last one is compared: by then everything was loaded and compiled. */
const WARM_UP = 2;
/** What the allocator of C and the heap of JavaScript keep to themselves goes up and down. */
const RSS_SLACK_KIB = 16 * 1024;

if (!Number.isInteger(CYCLES) || CYCLES < SAMPLES) {
  throw new Error(`cycles: a number from ${SAMPLES} on`);
}

function print(cycles: number, packets: number, { fds, mappings, threads, rssKiB }: Usage): void {
  const numbers = [cycles, packets, fds, mappings, threads, rssKiB];
  console.log(numbers.map((number) => String(number).padStart(9)).join(' '));
}

/** Sockets that are closed and memory that is released settle within a few turns of the loop. */
async function settled(): Promise<Usage> {
  await new Promise((resolve) => setTimeout(resolve, 200));
  return usage();
}

const folder = await temporaryFolder('soak');
const names = ['cycles', 'packets', 'fds', 'mappings', 'threads', 'RSS KiB'];
console.log(names.map((name) => name.padStart(9)).join(' '));
const samples: Usage[] = [];
let packets = 0;
try {
  for (let done = 1; done <= CYCLES; done++) {
    packets += await cycle(folder.path, done, PACKETS);
    if (done % Math.floor(CYCLES / SAMPLES) !== 0) continue;
    const now = await settled();
    samples.push(now);
    print(done, packets, now);
  }
} finally {
  await folder.remove();
}
const [first, last] = [samples[WARM_UP]!, samples.at(-1)!];
const growth = (['fds', 'mappings', 'threads'] as const).filter((key) => last[key] > first[key]);
const rss = last.rssKiB - first.rssKiB;
const lost = CYCLES * PACKETS - packets;
if (growth.length > 0 || rss > RSS_SLACK_KIB || lost !== 0) {
  console.log(
    `FAILED: grown ${growth.join(', ') || 'nothing'}, RSS by ${rss} KiB, ${lost} packets lost`,
  );
  process.exitCode = 1;
} else {
  console.log(`ok: no fd, mapping or thread more, RSS ${rss >= 0 ? '+' : ''}${rss} KiB`);
}
