import { z } from 'zod';
import { MAX_VHOST_QUEUES } from '../device/constants.js';
import type { VfioUserDeviceOptions } from '../hosts/vfio-user/options.js';
import { PROTOCOL_FEATURE_NAMES } from '../tunnel/index.js';
import { LAYOUTS } from '../hosts/layout.js';
import { readJsonFile, text, textOr } from './config-file.js';
import { parseGroup } from './group.js';
import { parseInteger, parseMode, parsePciId, parseSize } from './parse.js';

const windowSchema = z.strictObject({
  path: text.optional(),
  size: textOr(parseSize),
  trapped: textOr(parseSize).optional(),
});

/** One device of a configuration file; docs/operating.md describes each field. */
const deviceSchema = z.strictObject({
  name: text.regex(/^[A-Za-z0-9_.-]+$/).optional(),
  vfioUser: text,
  vhostUser: text,
  vhostUserMode: z.enum(['server', 'client']).optional(),
  window: windowSchema.optional(),
  layout: z.enum(LAYOUTS).optional(),
  queues: textOr(parseInteger(1, MAX_VHOST_QUEUES)).optional(),
  unknownRequests: z.enum(['pass', 'refuse']).optional(),
  hideFeatures: z.array(z.enum(PROTOCOL_FEATURE_NAMES)).optional(),
  shareMemory: z.boolean().optional(),
  uuid: text.optional(),
  stateDir: text.optional(),
  pciId: textOr(parsePciId).optional(),
  socketMode: textOr(parseMode).optional(),
  socketGroup: textOr(parseGroup).optional(),
});

const fileSchema = z.strictObject({ devices: z.array(deviceSchema).min(1) });

export type DeviceSettings = z.infer<typeof deviceSchema>;

/** @throws VvuError of scope `setup` that names the file, the field and what is wrong with it */
export function readConfigFile(path: string): DeviceSettings[] {
  return readJsonFile(path, fileSchema).devices;
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
    rules: {
      unknownRequests: settings.unknownRequests,
      hiddenFeatures: settings.hideFeatures,
      shareMemory: settings.shareMemory,
    },
    uuid: settings.uuid,
    stateDirectory: settings.stateDir,
    pciId: settings.pciId,
    socketMode: settings.socketMode ?? 0o600,
    socketGid: settings.socketGroup,
  };
}
