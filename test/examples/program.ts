import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { projectRoot } from '../support/paths.js';
import { until } from '../support/until.js';

/** An example that runs in a process of its own. */
export interface Program {
  /** What it printed. */
  readonly lines: readonly string[];
  /** Waits for a line that contains the text. */
  printed(text: string): Promise<void>;
  /** Waits for its end. @returns its status */
  ended(): Promise<number | string>;
}

export function startExample(t: ExecutionContext, name: string, ...args: string[]): Program {
  const file = join(projectRoot, 'dist/examples', `${name}.js`);
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  let end: number | string | undefined;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (data: string) => (text += data));
  }
  child.once('close', (status, signal) => (end = status ?? signal ?? 'gone'));
  const lines = () => text.split('\n').slice(0, -1);
  return {
    get lines() {
      return lines();
    },
    printed: async (part) => {
      await until(() => text.includes(part) || end !== undefined, `'${part}' of ${name}`);
      if (!text.includes(part)) throw new Error(`${name} ended without '${part}':\n${text}`);
    },
    ended: async () => {
      await until(() => end !== undefined, `the end of ${name}`);
      return end ?? 'gone';
    },
  };
}
