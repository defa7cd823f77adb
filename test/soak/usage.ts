import { readFileSync, readdirSync } from 'node:fs';

/** What this process holds of the machine. */
export interface Usage {
  readonly fds: number;
  /** Ranges of files that are mapped. */
  readonly mappings: number;
  readonly threads: number;
  readonly rssKiB: number;
}

/** After a collection of garbage, where node runs with --expose-gc. */
export function usage(): Usage {
  globalThis.gc?.();
  const status = readFileSync('/proc/self/status', 'latin1');
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  const maps = readFileSync('/proc/self/maps', 'latin1');
  return {
    fds: readdirSync('/proc/self/fd').length,
    mappings: maps.split('\n').filter((line) => line.includes(' /')).length,
    threads: field('Threads'),
    rssKiB: field('VmRSS'),
  };
}
