/** Programs that are measured against, or that stand for one side. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ANSWERING_CPU, onCpu } from './pin.js';
import type { Scope } from './scope.js';

/** This file runs as `dist/bench/support/children.js`. */
const SOURCES = fileURLToPath(new URL('../../../bench/floor/', import.meta.url));
const WORKERS = fileURLToPath(new URL('../workers/', import.meta.url));

/** Compiles `bench/floor/NAME.c`. @returns the program's path */
export async function compileFloor(folder: string, name: string): Promise<string> {
  const program = join(folder, name);
  const flags = ['-O2', '-Wall', '-Wextra', '-Werror'];
  await promisify(execFile)('cc', [...flags, '-o', program, join(SOURCES, `${name}.c`)]);
  return program;
}

export interface ChildOptions {
  /** Become its file descriptors 3, 4, ...; they stay the caller's. */
  readonly fds?: readonly number[];
  /** Default: the answering CPU. */
  readonly cpu?: number;
}

/** A child that says `ready`, and then one line for each line that it gets. */
export class Child {
  readonly #lines: Interface;

  private constructor(private readonly process: ChildProcess) {
    if (process.stdout === null) throw new Error('a child without stdout');
    this.#lines = createInterface(process.stdout);
  }

  /**
   * Starts it, and waits for its first line.
   */
  static async start(
    scope: Scope,
    command: string,
    args: readonly string[] = [],
    options: ChildOptions = {},
  ): Promise<Child> {
    const [program, all] = onCpu(options.cpu ?? ANSWERING_CPU, command, args);
    const stdio = ['pipe' as const, 'pipe' as const, 'inherit' as const, ...(options.fds ?? [])];
    const child = new Child(scope.own(spawn(program, all, { stdio })));
    await child.#line();
    return child;
  }

  /** Starts `bench/workers/NAME.ts`. */
  static worker(
    scope: Scope,
    name: string,
    args: readonly string[] = [],
    options: ChildOptions = {},
  ): Promise<Child> {
    return Child.start(scope, process.execPath, [join(WORKERS, `${name}.js`), ...args], options);
  }

  /** Sends a line and waits for the answer. */
  async tell(line: string): Promise<void> {
    this.process.stdin?.write(`${line}\n`);
    await this.#line();
  }

  async #line(): Promise<void> {
    const ended = new AbortController();
    const exited = once(this.process, 'exit', { signal: ended.signal }).then(() => {
      throw new Error(`${this.process.spawnfile} ended`);
    });
    try {
      await Promise.race([once(this.#lines, 'line', { signal: ended.signal }), exited]);
    } finally {
      exited.catch(() => undefined);
      ended.abort();
    }
  }
}
