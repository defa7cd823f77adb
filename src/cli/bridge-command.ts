import type { Command } from 'commander';
import { VvuError } from '../errors.js';
import { BridgeService } from '../guest/bridge/service.js';
import { USER_DRIVERS, type UserDriver } from '../guest/bind.js';
import { parseDeviceSpec, type DeviceSpec } from '../guest/open-device.js';
import type { Logger } from '../log.js';
import { native } from '../native.js';
import { argument } from './argument.js';
import { readBridgeFile, type BridgeSettings } from './bridge-settings.js';
import { parseGroup } from './group.js';
import type { LogLevel } from './logger.js';
import { LOG_LEVELS, createLogger } from './logger.js';
import { notifyManager } from './notify.js';
import { parseChoice, parseMode } from './parse.js';
import { untilStopped } from './signals.js';

interface BridgeFlags {
  readonly device?: DeviceSpec;
  readonly socket?: string;
  readonly mode?: 'client' | 'server';
  readonly bind?: UserDriver;
  readonly intx?: boolean;
  readonly socketMode?: number;
  readonly socketGroup?: number;
  readonly config?: string;
  readonly logLevel: LogLevel;
  readonly json: boolean;
}

export function addBridgeCommand(program: Command): void {
  program
    .command('bridge')
    .description('connect virtio-vhost-user devices with local vhost-user backends')
    .option(
      '--device <device>',
      'PCI address such as 0000:00:05.0, uuid:UUID, or vfio-user:PATH',
      argument(parseDeviceSpec),
    )
    .option('--socket <path>', "the backend's vhost-user socket")
    .option(
      '--mode <mode>',
      'client: the backend listens on the socket; server: it connects to us (default: client)',
      argument(parseChoice(['client', 'server'])),
    )
    .option(
      '--bind <driver>',
      `take the function over from the driver it has: ${USER_DRIVERS.join(' or ')}`,
      argument(parseChoice(USER_DRIVERS)),
    )
    .option('--intx', 'take INTx from uio_pci_generic in place of polling; rarely better')
    .option(
      '--socket-mode <mode>',
      'permissions of the socket in server mode (default: 0600)',
      argument(parseMode),
    )
    .option('--socket-group <group>', 'group of the socket', argument(parseGroup))
    .option('--config <file>', 'JSON file that describes several bridges')
    .option('--log-level <level>', LOG_LEVELS.join(', '), argument(parseChoice(LOG_LEVELS)), 'info')
    .option('--json', 'JSON lines on stdout and stderr', false)
    .action((flags: BridgeFlags) => runBridges(flags));
}

function settingsOf(flags: BridgeFlags): BridgeSettings[] {
  const { config, device, socket, mode, bind, intx, socketMode, socketGroup } = flags;
  const settings = { mode, bind, intx, socketMode, socketGroup };
  if (config !== undefined) {
    if ([device, socket, ...Object.values(settings)].some((value) => value !== undefined)) {
      throw new VvuError('BAD_OPTION', 'setup', '--config takes no bridge options beside it');
    }
    return readBridgeFile(config);
  }
  if (device === undefined || socket === undefined) {
    throw new VvuError('BAD_OPTION', 'setup', '--device and --socket are needed, or --config');
  }
  return [{ device, socket, ...settings }];
}

function createService(settings: BridgeSettings, logger: Logger): BridgeService {
  const { device, socket, mode = 'client', bind, intx, socketMode, socketGroup } = settings;
  return new BridgeService({
    ...{ device, socket, mode, native, logger },
    ...(bind === undefined ? {} : { bind }),
    ...(intx === undefined ? {} : { intx }),
    permissions: {
      mode: socketMode ?? 0o600,
      ...(socketGroup === undefined ? {} : { gid: socketGroup }),
    },
  });
}

function reportReady(
  name: string,
  { socket, mode = 'client' }: BridgeSettings,
  json: boolean,
): void {
  const line = json
    ? JSON.stringify({ event: 'ready', name, socket, mode })
    : `ready ${name} socket=${socket} mode=${mode}`;
  process.stdout.write(`${line}\n`);
}

/** Serves until a signal. READY=1 comes when each device has been looked for once. */
async function runBridges(flags: BridgeFlags): Promise<void> {
  const logger = createLogger(flags.logLevel, flags.json);
  const bridges = settingsOf(flags).map((settings, index) => {
    const name = settings.name ?? `bridge${index}`;
    const service = createService(settings, logger.child({ bridge: name }));
    return { name, settings, service };
  });
  const stopped = untilStopped();
  try {
    for (const { service } of bridges) await service.start();
    for (const { name, settings } of bridges) reportReady(name, settings, flags.json);
    notifyManager(native, 'READY=1', logger);
    const signal = await stopped;
    logger.info({ signal }, 'stopping');
    notifyManager(native, 'STOPPING=1', logger);
  } finally {
    await Promise.all(bridges.map(({ service }) => service.close()));
  }
}
