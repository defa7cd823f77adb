import { spawn } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Benchmark } from './benchmark.js';
import { startProcess } from './support/device.js';
import { Scope } from './support/scope.js';
import { median } from './support/stats.js';
import { digits, printTable } from './support/table.js';

const MANY = 32;
const ROUNDS = 2;
/** For what a start leaves to do: compilation, garbage. */
const SETTLE_MS = 300;

interface Footprint {
  readonly rssKib: number;
  readonly fds: number;
  readonly threads: number;
}

function footprint(pid: number): Footprint {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    rssKib: field('VmRSS'),
    fds: readdirSync(`/proc/${pid}/fd`).length,
    threads: field('Threads'),
  };
}

/** A process with `count` idle devices. */
async function devices(scope: Scope, count: number): Promise<Footprint> {
  const folder = await scope.folder();
  const config = join(folder, 'devices.json');
  const list = Array.from({ length: count }, (_, index) => ({
    vfioUser: join(folder, `vfio-user-${index}`),
    vhostUser: join(folder, `vhost-user-${index}`),
  }));
  writeFileSync(config, JSON.stringify({ devices: list }));
  const { pid } = await startProcess(scope, ['--config', config]);
  await sleep(SETTLE_MS);
  return footprint(pid);
}

/** Node.js that does nothing. */
async function bare(scope: Scope): Promise<Footprint> {
  const { pid } = scope.own(spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)']));
  await sleep(SETTLE_MS);
  return footprint(pid ?? 0);
}

function row(name: string, values: readonly Footprint[], floor?: readonly Footprint[]): string[] {
  const over = (key: keyof Footprint): number => median(values.map((one) => one[key]));
  const ratio = floor === undefined ? NaN : over('rssKib') / median(floor.map((f) => f.rssKib));
  return [
    name,
    digits(over('rssKib') / 1024),
    digits(ratio),
    digits(over('fds')),
    digits(over('threads')),
  ];
}

export const deviceMemory: Benchmark = {
  name: 'device-memory',
  what: `memory of a process with 1 and ${MANY} idle devices`,
  async run() {
    const [none, one, many]: [Footprint[], Footprint[], Footprint[]] = [[], [], []];
    for (let round = 0; round < ROUNDS; round++) {
      none.push(await Scope.run(bare));
      one.push(await Scope.run((scope) => devices(scope, 1)));
      many.push(await Scope.run((scope) => devices(scope, MANY)));
    }
    const each = many.map((with32, round) => {
      const difference = (key: keyof Footprint): number =>
        (with32[key] - (one[round]?.[key] ?? NaN)) / (MANY - 1);
      return {
        rssKib: difference('rssKib'),
        fds: difference('fds'),
        threads: difference('threads'),
      };
    });
    printTable(
      ['', 'RSS MiB', 'to bare Node.js', 'fds', 'threads'],
      [
        row('floor: bare Node.js', none, none),
        row('1 device', one, none),
        row(`${MANY} devices`, many, none),
        row('each more device', each),
      ],
    );
  },
};
