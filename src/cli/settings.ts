import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { MAX_VHOST_QUEUES } from '../device/constants.js';
import { VvuError, errorMessage } from '../errors.js';
import type { VfioUserDeviceOptions } from '../hosts/vfio-user/options.js';
import { LAYOUTS } from '../hosts/layout.js';
import { parseGroup } from './group.js';
import { parseInteger, parseMode, parsePciId, parseSize } from './parse.js';

/** A value that is written as text on the command line and may be a number in a file. */
function from<T>(parse: (text: string) => T): z.ZodType<T, string | number> {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    try {
      return parse(String(value));
    } catch (error) {
      context.addIssue({ code: 'custom', message: errorMessage(error) });
      return z.NEVER;
    }
  });
}

const text = z.string().min(1);

const windowSchema = z.strictObject({
  path: text.optional(),
  size: from(parseSize),
  trapped: from(parseSize).optional(),
});

/** One device of a configuration file; docs/operating.md describes each field. */
const deviceSchema = z.strictObject({
  name: text.regex(/^[A-Za-z0-9_.-]+$/).optional(),
  vfioUser: text,
  vhostUser: text,
  vhostUserMode: z.enum(['server', 'client']).optional(),
  window: windowSchema.optional(),
  layout: z.enum(LAYOUTS).optional(),
  queues: from(parseInteger(1, MAX_VHOST_QUEUES)).optional(),
  uuid: text.optional(),
  stateDir: text.optional(),
  pciId: from(parsePciId).optional(),
  socketMode: from(parseMode).optional(),
  socketGroup: from(parseGroup).optional(),
});

const fileSchema = z.strictObject({ devices: z.array(deviceSchema).min(1) });

export type DeviceSettings = z.infer<typeof deviceSchema>;

/** @throws VvuError of scope `setup` that names the file, the field and what is wrong with it */
export function readConfigFile(path: string): DeviceSettings[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new VvuError('BAD_CONFIG', 'setup', `${path}: ${errorMessage(error)}`, { cause: error });
  }
  const result = fileSchema.safeParse(parsed);
  if (!result.success) {
    const issues = result.error.issues.map(
      ({ path: at, message }) => `${at.join('.') || 'file'}: ${message}`,
    );
    throw new VvuError('BAD_CONFIG', 'setup', `${path}: ${issues.join('; ')}`);
  }
  return result.data.devices;
}

/** The default window where none is asked for: all trapped. */
const DEFAULT_WINDOW_BYTES = 2 ** 30;

/** Options of the library for what the operator set. */
export function toDeviceOptions(settings: DeviceSettings, index: number): VfioUserDeviceOptions {
  const { window } = settings;
  return {
    name: settings.name ?? `device${index}`,
    vfioUserPath: settings.vfioUser,
    vhostUserPath: settings.vhostUser,
    vhostUserMode: settings.vhostUserMode ?? 'server',
    window: {
      presetPath: window?.path,
      presetSize: window?.path === undefined ? 0 : window.size,
      trappedSize:
        window?.path === undefined ? (window?.size ?? DEFAULT_WINDOW_BYTES) : (window.trapped ?? 0),
    },
    layout: settings.layout ?? 'split',
    maxVhostQueues: settings.queues,
    uuid: settings.uuid,
    stateDirectory: settings.stateDir,
    pciId: settings.pciId,
    socketMode: settings.socketMode ?? 0o600,
    socketGid: settings.socketGroup,
  };
}
