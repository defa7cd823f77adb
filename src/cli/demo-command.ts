import type { Command } from 'commander';
import { VvuError } from '../errors.js';
import { testpmdMissing } from '../frontend/testpmd.js';
import { LAYOUTS } from '../hosts/layout.js';
import type { Layout } from '../hosts/layout.js';
import { argument } from './argument.js';
import { BuiltInFrontend } from './demo/built-in-frontend.js';
import { runDemo } from './demo/demo.js';
import type { DemoFrontend } from './demo/frontend.js';
import { TestpmdFrontend } from './demo/testpmd-frontend.js';
import type { LogLevel } from './logger.js';
import { LOG_LEVELS, createLogger } from './logger.js';
import { parseChoice, parseInteger } from './parse.js';

const FRONTENDS = ['dpdk', 'built-in'] as const;

interface DemoFlags {
  readonly frontend?: (typeof FRONTENDS)[number];
  readonly queues: number;
  readonly seconds: number;
  readonly layout: Layout;
  readonly logLevel: LogLevel;
}

export function addDemoCommand(program: Command): void {
  program
    .command('demo')
    .description('run a device, a backend behind it and a frontend, and move packets through them')
    .option(
      '--frontend <frontend>',
      'dpdk or built-in (default: dpdk where dpdk-testpmd is installed)',
      argument(parseChoice(FRONTENDS)),
    )
    .option('--queues <n>', 'queue pairs', argument(parseInteger(1, 16)), 1)
    .option('--seconds <n>', 'how long to move packets', argument(parseInteger(1, 3600)), 5)
    .option('--layout <layout>', 'register layout', argument(parseChoice(LAYOUTS)), 'split')
    .option(
      '--log-level <level>',
      'log of the backend, on stderr',
      argument(parseChoice(LOG_LEVELS)),
      'warn',
    )
    .action((flags: DemoFlags) => demo(flags));
}

async function demo(flags: DemoFlags): Promise<void> {
  const { queues, seconds, layout } = flags;
  const started = performance.now();
  await runDemo({
    queues,
    layout,
    milliseconds: seconds * 1000,
    frontend: chooseFrontend(flags.frontend),
    logger: createLogger(flags.logLevel, false),
    print: (line) => process.stdout.write(`${line}\n`),
  });
  const took = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(`\nok, ${took} s\n`);
}

function chooseFrontend(
  wanted: DemoFlags['frontend'],
): (socket: string, queues: number) => DemoFrontend {
  const missing = testpmdMissing();
  if (wanted === 'dpdk' && missing !== undefined) {
    throw new VvuError('NO_TESTPMD', 'setup', missing);
  }
  const dpdk = wanted === 'dpdk' || (wanted === undefined && missing === undefined);
  return (socket, queues) =>
    dpdk ? new TestpmdFrontend(socket, queues) : new BuiltInFrontend(socket, queues);
}
