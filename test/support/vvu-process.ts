import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { projectRoot } from './paths.js';

/** A `vvu` process of its own, as an operator runs it; it ends with this one. */
export class VvuProcess {
  readonly #child: ChildProcess;
  readonly #exit: Promise<string>;
  #log = '';
  #output = '';
  #ended: string | undefined;

  private constructor(args: readonly string[], env: NodeJS.ProcessEnv) {
    const main = join(projectRoot, 'dist/src/cli/main.js');
    const command = ['--pdeathsig', 'KILL', '--', process.execPath, main, ...args];
    this.#child = spawn('setpriv', command, { stdio: ['ignore', 'pipe', 'pipe'], env });
    this.#exit = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(error.message));
      this.#child.once('close', (code, signal) => resolve(signal ?? `status ${code}`));
    });
    void this.#exit.then((how) => (this.#ended = how));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
  }

  /** Starts it and waits for its line `ready`. */
  static async start(
    args: readonly string[],
    env: NodeJS.ProcessEnv = process.env,
  ): Promise<VvuProcess> {
    const started = VvuProcess.run(args, env);
    try {
      await started.until(
        () => /(^ready\b|"event":"ready")/m.test(started.#output),
        'its ready line',
      );
    } catch (error) {
      await started.kill();
      throw error;
    }
    return started;
  }

  /** Starts it, whatever becomes of it. */
  static run(args: readonly string[], env: NodeJS.ProcessEnv = process.env): VvuProcess {
    return new VvuProcess(args, env);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get log(): string {
    return this.#log;
  }

  /** Open file descriptors. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Resident memory in MiB. */
  get residentMib(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'latin1');
    return Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1]) / 1024;
  }

  async until(condition: () => boolean, what: string, milliseconds = 20_000): Promise<void> {
    const deadline = Date.now() + milliseconds;
    while (!condition()) {
      if (this.#ended !== undefined) throw new Error(`vvu ended: ${this.#ended}\n${this.#log}`);
      if (Date.now() > deadline) throw new Error(`waited for ${what}\n${this.#log}`);
      await sleep(5);
    }
  }

  /** Resolves with how it ended. */
  ended(): Promise<string> {
    return this.#exit;
  }

  /** SIGTERM; "status 0" when it stopped cleanly. */
  async stop(): Promise<string> {
    this.#child.kill('SIGTERM');
    const force = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    const how = await this.#exit;
    clearTimeout(force);
    return how;
  }

  async kill(): Promise<string> {
    this.#child.kill('SIGKILL');
    return this.#exit;
  }
}
