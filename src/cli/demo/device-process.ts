import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { VvuError } from '../../errors.js';
import type { ReadyReport } from '../ready.js';

const MAIN = fileURLToPath(new URL('../main.js', import.meta.url));
const READY_MS = 30_000;

/** A `vvu device` of its own process, as an operator would start it. */
export class DeviceProcess {
  #log = '';

  private constructor(
    private readonly child: ChildProcess,
    readonly report: ReadyReport,
  ) {}

  /** Starts it and waits for its ready line. @throws VvuError with what it said instead */
  static async start(options: readonly string[]): Promise<DeviceProcess> {
    const child = spawn(process.execPath, [MAIN, 'device', '--json', ...options], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
    const report = await new Promise<ReadyReport | undefined>((resolve) => {
      const timer = setTimeout(() => resolve(undefined), READY_MS);
      createInterface(child.stdout).once('line', (line) => {
        clearTimeout(timer);
        resolve(JSON.parse(line) as ReadyReport);
      });
      child.once('exit', () => {
        clearTimeout(timer);
        resolve(undefined);
      });
    });
    if (report === undefined) {
      child.kill('SIGKILL');
      throw new VvuError('DEVICE_FAILED', 'setup', `the device did not start: ${log.trim()}`);
    }
    const started = new DeviceProcess(child, report);
    started.#log = log;
    child.stderr.on('data', (text: string) => (started.#log += text));
    return started;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** What it has logged so far, JSON lines. */
  get log(): string {
    return this.#log;
  }

  /** Ends it as an operator would. @returns its exit status */
  async stop(): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode;
    const exited = once(this.child, 'exit') as Promise<[number | null]>;
    this.child.kill('SIGTERM');
    const force = setTimeout(() => this.child.kill('SIGKILL'), 5000);
    const [status] = await exited;
    clearTimeout(force);
    return status;
  }
}
