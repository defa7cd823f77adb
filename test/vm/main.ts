/**
 * `npm run vm -- LAB` starts the VMs of a scenario as its test does, and leaves them up for a person
 * until Ctrl-C or SIGTERM. Needs root, like the tests; see docs/operating.md.
 */
import { untilStopped } from '../../src/cli/signals.js';
import { Unavailable } from '../support/packages.js';
import { temporaryFolder } from '../support/temporary.js';
import { deferred } from './deferred.js';
import type { Lab, LabKind } from './lab.js';
import { blkLabKind } from './scenarios/blk-lab.js';
import { fsLabKind } from './scenarios/fs-lab.js';
import { netLabKind } from './scenarios/net-lab.js';
import { TerminalMenu } from './terminal-menu.js';

const labs: Readonly<Record<string, LabKind>> = {
  net: netLabKind,
  blk: blkLabKind,
  fs: fsLabKind,
};

function usage(): string {
  const lines = Object.entries(labs).map(([name, { summary }]) => `  ${name.padEnd(6)} ${summary}`);
  return `usage: npm run vm -- LAB\n\n${lines.join('\n')}`;
}

function tellConsoles(lab: Lab, say: (line: string) => void): void {
  say('\nThe VMs stay up. Their consoles, for another terminal (Ctrl-] leaves):');
  for (const { vm, hints } of lab.vms) {
    say(`  ${vm.name}: socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:${vm.console}`);
    for (const hint of hints) say(`      ${hint}`);
  }
}

/** Where lines go: to the terminal as it is, or by the menu that has it. */
interface Screen {
  print: (line: string) => void;
}

async function start(kind: LabKind, folder: string, say: (line: string) => void): Promise<Lab> {
  say(`${kind.picture}\n`);
  const lab = await kind.start({ folder, say, deviceLog: say });
  await lab.show();
  tellConsoles(lab, say);
  return lab;
}

async function run(kind: LabKind): Promise<void> {
  const quit = deferred<undefined>();
  const stopped = Promise.race([untilStopped(), quit.promise]).then(() => undefined);
  const screen: Screen = { print: (line) => console.log(line) };
  const folder = await temporaryFolder('lab', '/dev/shm');
  const starting = start(kind, folder.path, (line) => screen.print(line));
  const lab = await Promise.race([starting, stopped]);
  // VMs, devices and folders end with this process, however it ends; no order is needed here.
  if (lab === undefined) process.exit(1);
  try {
    await stay(lab, screen, stopped, () => quit.resolve(undefined));
  } finally {
    screen.print('ending the VMs');

    await lab.close();
    await folder.remove();
  }
}

/** Until somebody has enough. */
async function stay(
  lab: Lab,
  screen: Screen,
  stopped: Promise<void>,
  quit: () => void,
): Promise<void> {
  const { print } = screen;
  if (!process.stdin.isTTY) {
    print(`\nCtrl-C, or SIGTERM to process ${process.pid}, ends them.`);
    return stopped;
  }
  const show = (): Promise<void> => lab.show();
  const menu = new TerminalMenu(process.stdin, process.stdout, lab.vms, { show, quit });
  screen.print = (line) => menu.say(line);
  menu.say(`\n${menu.help}`);
  await stopped;
  menu.close();
  screen.print = print;
}

const kind = labs[process.argv[2] ?? ''];
if (kind === undefined) {
  console.error(usage());
  process.exit(2);
}
try {
  await run(kind);
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  console.error(`cannot run here: ${error.message}`);
  process.exit(2);
}
