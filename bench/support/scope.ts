import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';

/** What is left to do when this process ends; one that fails keeps no other from its turn. */
const leftovers = new Set<() => void>();
process.once('exit', () => {
  for (const step of leftovers) {
    try {
      step();
    } catch {
      // What it was to end has ended by itself.
    }
  }
});

/** What a benchmark has started, undone in reverse order. */
export class Scope {
  readonly #steps: (() => unknown)[] = [];

  /** Runs `body` with a scope, and ends that. The error of `body` goes before one of the end. */
  static async run<T>(body: (scope: Scope) => Promise<T>): Promise<T> {
    const scope = new Scope();
    let result: T;
    try {
      result = await body(scope);
    } catch (error) {
      await scope.end().catch(() => undefined);
      throw error;
    }
    await scope.end();
    return result;
  }

  defer(step: () => unknown): void {
    this.#steps.push(step);
  }

  /** A step that fails keeps no other from its turn. @throws the first error */
  async end(): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** For what must not outlive this process either, however it ends. */
  deferBeyondExit(atExit: () => void, step: () => unknown = atExit): void {
    leftovers.add(atExit);
    this.defer(async () => {
      await step();
      leftovers.delete(atExit);
    });
  }

  /** Ends a child with this scope, or with this process. */
  own<T extends ChildProcess>(child: T): T {
    const kill = (): void => void child.kill('SIGKILL');
    this.deferBeyondExit(kill, async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      kill();
      await exited;
    });
    return child;
  }

  /** A folder in memory, so that files in it can be a guest's RAM. */
  async folder(): Promise<string> {
    const path = await mkdtemp(join('/dev/shm', 'vvu-bench-'));
    this.deferBeyondExit(() => rmSync(path, { recursive: true, force: true }));
    return path;
  }
}
