#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { VvuError, errorMessage } from '../errors.js';
import { addBridgeCommand } from './bridge-command.js';
import { addDemoCommand } from './demo-command.js';
import { addDeviceCommand } from './device-command.js';

/** Exit status for wrong options and for what the environment refuses. */
const EXIT_USAGE = 2;

function version(): string {
  const file = new URL('../../../package.json', import.meta.url);
  const { version: text } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return text;
}

async function main(): Promise<void> {
  const program = new Command('vvu')
    .description('virtio-vhost-user: virtual machines that serve devices to other virtual machines')
    .version(version())
    .exitOverride();
  addDeviceCommand(program);
  addBridgeCommand(program);
  addDemoCommand(program);
  for (const command of program.commands) command.exitOverride();
  await program.parseAsync();
}

// Where the last words go matters less than the exit status.
process.stderr.on('error', () => undefined);

main().catch((error: unknown) => {
  if (error instanceof CommanderError) {
    // commander has printed its one line, or the help that was asked for.
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
    return;
  }
  process.stderr.write(`vvu: ${errorMessage(error)}\n`);
  process.exitCode = error instanceof VvuError && error.scope === 'setup' ? EXIT_USAGE : 1;
});
