import type { Command } from 'commander';
import { createVfioUserDevice } from '../hosts/vfio-user/index.js';
import type { VfioUserDeviceHost } from '../hosts/vfio-user/index.js';
import { LAYOUTS } from '../hosts/layout.js';
import { PROTOCOL_FEATURE_NAMES } from '../tunnel/index.js';
import { VvuError } from '../errors.js';
import { native } from '../native.js';
import { argument } from './argument.js';
import { parseGroup } from './group.js';
import type { LogLevel } from './logger.js';
import { LOG_LEVELS, createLogger } from './logger.js';
import {
  parseChoice,
  parseInteger,
  parseList,
  parseMode,
  parsePciId,
  parseWindow,
} from './parse.js';
import { formatReady, readyReport } from './ready.js';
import type { DeviceSettings } from './settings.js';
import { readConfigFile, toDeviceOptions } from './settings.js';
import { untilStopped } from './signals.js';

interface DeviceFlags extends Partial<DeviceSettings> {
  readonly config?: string;
  readonly logLevel: LogLevel;
  readonly json: boolean;
}

export function addDeviceCommand(program: Command): void {
  program
    .command('device')
    .description('serve virtio-vhost-user devices to vfio-user clients such as QEMU')
    .option('--vfio-user <path>', "socket for the appliance VM's VMM")
    .option('--vhost-user <path>', "socket for the frontend VM's VMM")
    .option(
      '--vhost-user-mode <mode>',
      'server: frontends connect to us; client: we connect to them (default: server)',
      argument(parseChoice(['server', 'client'])),
    )
    .option(
      '--window <spec>',
      'path=FILE,size=SIZE[,trapped=SIZE]: FILE is the RAM of the frontend VM; or size=SIZE (default: size=1G)',
      argument(parseWindow),
    )
    .option(
      '--layout <layout>',
      `register layout: ${LAYOUTS.join(', ')} (default: split)`,
      argument(parseChoice(LAYOUTS)),
    )
    .option(
      '--queues <n>',
      'vrings that a frontend may use (default: 256)',
      argument(parseInteger(1, 1024)),
    )
    .option(
      '--unknown-requests <what>',
      'pass or refuse requests that the device does not know (default: pass)',
      argument(parseChoice(['pass', 'refuse'])),
    )
    .option(
      '--hide-features <names>',
      'protocol features that no frontend shall see, such as BACKEND_REQ,LOG_SHMFD',
      argument(parseList(PROTOCOL_FEATURE_NAMES)),
    )
    .option(
      '--share-memory',
      "let the frontend map memory of the appliance's (SHMEM): it gets the file of all its RAM",
    )
    .option('--uuid <uuid>', 'identity that the guest reads from the device')
    .option('--state-dir <path>', 'keep a random identity across restarts here')
    .option('--pci-id <id>', 'VVVV:DDDD (default: 1af4:1058)', argument(parsePciId))
    .option(
      '--socket-mode <mode>',
      'permissions of both sockets (default: 0600)',
      argument(parseMode),
    )
    .option('--socket-group <group>', 'group of both sockets', argument(parseGroup))
    .option('--config <file>', 'JSON file that describes several devices')
    .option('--log-level <level>', LOG_LEVELS.join(', '), argument(parseChoice(LOG_LEVELS)), 'info')
    .option('--json', 'JSON lines on stdout and stderr', false)
    .action((flags: DeviceFlags) => runDevices(flags));
}

function settingsOf(flags: DeviceFlags): DeviceSettings[] {
  const { config, vfioUser, vhostUser, ...others } = flags;
  const device = Object.fromEntries(
    Object.entries(others).filter(([name]) => name !== 'logLevel' && name !== 'json'),
  );
  if (config !== undefined) {
    if (vfioUser ?? vhostUser ?? Object.keys(device)[0]) {
      throw new VvuError('BAD_OPTION', 'setup', '--config takes no device options beside it');
    }
    return readConfigFile(config);
  }
  if (vfioUser === undefined || vhostUser === undefined) {
    throw new VvuError(
      'BAD_OPTION',
      'setup',
      '--vfio-user and --vhost-user are needed, or --config',
    );
  }
  return [{ ...device, vfioUser, vhostUser }];
}

async function runDevices(flags: DeviceFlags): Promise<void> {
  const logger = createLogger(flags.logLevel, flags.json);
  const options = settingsOf(flags).map(toDeviceOptions);
  const hosts: VfioUserDeviceHost[] = [];
  // Nobody has to read the ready line, and the devices go on without it.
  process.stdout.on('error', (error: Error) =>
    logger.warn({ error: error.message }, 'stdout is lost'),
  );
  // Before the ready line: whoever reads it may send a signal at once.
  const stopped = untilStopped();
  try {
    for (const one of options) {
      const log = logger.child({ device: one.name });
      hosts.push(createVfioUserDevice({ ...one, logger: log }, native));
    }
    for (const host of hosts) {
      const report = readyReport(host);
      const line = flags.json ? JSON.stringify({ event: 'ready', ...report }) : formatReady(report);
      process.stdout.write(`${line}\n`);
    }
    const signal = await stopped;
    logger.info({ signal }, 'stopping');
  } finally {
    await Promise.all(hosts.map((host) => host.close()));
  }
}
