import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { available, declareTests } from '../support/declare-tests.js';
import { projectRoot } from '../support/paths.js';
import { until } from '../support/until.js';
import { scenarioKits } from '../support/vm-kit.js';

// `npm run vm`, without a terminal: what it prints leads to consoles, and a signal ends all of it.

const { reason } = await available(scenarioKits);
const vmTest = declareTests(reason);

const UP_TIMEOUT = 600_000;

/** Processes that one has started, and those that they have. */
function descendants(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]));
    } catch {
      // It has ended since.
    }
  }
  const children = (of: number): number[] =>
    [...parents].filter(([, parent]) => parent === of).flatMap(([one]) => [one, ...children(one)]);
  return children(pid);
}

/** A zombie of a process that nobody waits for has ended, too. */
function runs(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ');
  } catch {
    return false;
  }
}

class Command {
  readonly child = spawn(process.execPath, [join(projectRoot, 'dist/test/vm/main.js'), 'blk'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  readonly exit = once(this.child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  output = '';
  ended = false;

  constructor() {
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
    void this.exit.then(() => (this.ended = true));
  }

  async says(text: string): Promise<void> {
    const end = Date.now() + UP_TIMEOUT;
    while (!this.output.includes(text)) {
      if (this.ended || Date.now() > end) throw new Error(`no "${text}" in:\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function answerOf(console: string, line: string, answer: string): Promise<void> {
  const socket = connect(console);
  let text = '';
  socket.setEncoding('utf8').on('data', (data: string) => (text += data));
  await once(socket, 'connect');
  socket.write(`\n${line}\n`);
  await until(() => text.includes(answer), `${answer} from ${line}`);
  socket.destroy();
}

vmTest('npm run vm -- blk: consoles answer, SIGTERM leaves nothing behind', async (t) => {
  t.timeout(900_000);
  const command = new Command();
  t.teardown(() => command.child.kill('SIGKILL'));
  await command.says('ends them.');
  t.regex(command.output, /SHA-256 of all files equal/);
  const consoles = [...command.output.matchAll(/^ {2}(\S+): .*UNIX-CONNECT:(\S+)$/gm)];
  t.deepEqual(
    consoles.map(([, name]) => name),
    ['appliance', 'frontend-0'],
  );
  for (const [, name, path = ''] of consoles) {
    await answerOf(path, 'echo $(hostname) $((6 * 7))', `${name} 42`);
  }
  const started = descendants(command.child.pid!);
  t.true(started.length >= 3, 'two VMs and a device at least');
  command.child.kill('SIGTERM');
  t.deepEqual(await command.exit, [0, null], command.output);
  await until(() => !started.some(runs), 'the end of all that it had started');
  for (const [, , path = ''] of consoles) t.false(existsSync(path));
});

vmTest('npm run vm -- blk: SIGTERM while the VMs start', async (t) => {
  t.timeout(900_000);
  const command = new Command();
  t.teardown(() => command.child.kill('SIGKILL'));
  await command.says('client connected');
  const started = descendants(command.child.pid!);
  command.child.kill('SIGTERM');
  t.deepEqual(await command.exit, [1, null], command.output);
  await until(() => !started.some(runs), 'the end of all that it had started');
});

vmTest('npm run vm without a lab says which there are', async (t) => {
  const child = spawn(process.execPath, [join(projectRoot, 'dist/test/vm/main.js'), 'nosuch']);
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (data: string) => (text += data));
  t.deepEqual(await once(child, 'close'), [2, null]);
  t.regex(text, /^usage: npm run vm -- LAB\n\n {2}net +.*\n {2}blk /);
});
