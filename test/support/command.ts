import { spawn } from 'node:child_process';

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Milliseconds after which the command is ended with SIGTERM, then SIGKILL. */
  readonly timeout?: number;
}

/** A command that could not be started, failed, or took too long. */
export class CommandError extends Error {
  override readonly name = 'CommandError';

  constructor(
    command: string,
    outcome: string,
    /** What it printed on stderr. */
    readonly stderr: string,
  ) {
    super(`${command} ${outcome}: ${lastLines(stderr, 5)}`);
  }
}

/** Runs a command with no standard input and resolves with its standard output. */
export function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const { timeout = 60_000, cwd, env = process.env } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    let late = false;
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGTERM');
      setTimeout(() => child.kill('SIGKILL'), 5_000).unref();
    }, timeout);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(new CommandError(file, 'could not be started', error.message));
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(stdout);
      else if (late) reject(new CommandError(file, `took over ${timeout} ms`, stderr));
      else reject(new CommandError(file, `ended with ${signal ?? `status ${code}`}`, stderr));
    });
  });
}

function lastLines(text: string, count: number): string {
  return text.trim().split('\n').slice(-count).join(' | ');
}
