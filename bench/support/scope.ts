import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';

/** What a benchmark has started, undone in reverse order. */
export class Scope {
  readonly #steps: (() => unknown)[] = [];

  /** Runs `body` with a scope, and ends that. */
  static async run<T>(body: (scope: Scope) => Promise<T>): Promise<T> {
    const scope = new Scope();
    try {
      return await body(scope);
    } finally {
      await scope.end();
    }
  }

  defer(step: () => unknown): void {
    this.#steps.push(step);
  }

  async end(): Promise<void> {
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) await step();
  }

  /** Ends a child with this scope, or with this process. */
  own<T extends ChildProcess>(child: T): T {
    const kill = (): void => void child.kill('SIGKILL');
    process.once('exit', kill);
    this.defer(async () => {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit');
        kill();
        await exited;
      }
      process.off('exit', kill);
    });
    return child;
  }

  /** A folder in memory, so that files in it can be a guest's RAM. */
  async folder(): Promise<string> {
    const path = await mkdtemp(join('/dev/shm', 'vvu-bench-'));
    const remove = (): void => rmSync(path, { recursive: true, force: true });
    process.once('exit', remove);
    this.defer(() => {
      remove();
      process.off('exit', remove);
    });
    return path;
  }
}
