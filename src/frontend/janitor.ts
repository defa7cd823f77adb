import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Socket } from 'node:net';

/**
 * Run a shell script when the returned function is called, or when this process ends in
 * whatever way, SIGKILL included: the script waits for the end of a pipe that only we hold.
 * For what outlives a process (mounts, kernel settings, files), so that no test leaves it behind.
 *
 * The script sees `args` as "$1", "$2"...; its exit code other than 0 rejects the promise.
 * It runs in a session of its own, so Ctrl-C at the terminal reaches us and not it.
 */
export function janitor(script: string, ...args: string[]): () => Promise<void> {
  const waiting = `while read -r _; do :; done\n${script}`;
  const child = spawn('sh', ['-c', waiting, 'janitor', ...args], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  ended.catch(() => undefined);
  child.unref();
  if (child.stdin instanceof Socket) child.stdin.unref();
  return async () => {
    if (child.exitCode === null) child.ref();
    child.stdin.end();
    const [code, signal] = await ended;
    if (code !== 0) throw new Error(`clean-up failed (${signal ?? String(code)}): ${script}`);
  };
}
