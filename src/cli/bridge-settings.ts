import { z } from 'zod';
import { VvuError } from '../errors.js';
import { USER_DRIVERS, type UserDriver } from '../guest/bind.js';
import { parseDeviceSpec, type DeviceSpec } from '../guest/open-device.js';
import { readJsonFile, text, textOr } from './config-file.js';
import { parseGroup } from './group.js';
import { parseMode } from './parse.js';

/** One bridge of a configuration file. */
const bridgeSchema = z.strictObject({
  name: text.regex(/^[A-Za-z0-9_.-]+$/).optional(),
  device: textOr(parseDeviceSpec),
  socket: text,
  mode: z.enum(['client', 'server']).optional(),
  bind: z.enum(USER_DRIVERS).optional(),
  intx: z.boolean().optional(),
  socketMode: textOr(parseMode).optional(),
  socketGroup: textOr(parseGroup).optional(),
});

const fileSchema = z.strictObject({ bridges: z.array(bridgeSchema).min(1) });

export interface BridgeSettings {
  readonly name?: string | undefined;
  readonly device: DeviceSpec;
  readonly socket: string;
  readonly mode?: 'client' | 'server' | undefined;
  readonly bind?: UserDriver | undefined;
  readonly intx?: boolean | undefined;
  readonly socketMode?: number | undefined;
  readonly socketGroup?: number | undefined;
}

/** @throws VvuError of scope `setup` that names the file, the field and what is wrong with it */
export function readBridgeFile(path: string): BridgeSettings[] {
  const { bridges } = readJsonFile(path, fileSchema);
  const twice = (values: readonly string[]): string | undefined =>
    values.find((value, index) => values.indexOf(value) !== index);
  const same =
    twice(bridges.map(({ socket }) => socket)) ??
    twice(bridges.map(({ device }) => JSON.stringify(device)));
  if (same !== undefined) {
    throw new VvuError('BAD_CONFIG', 'setup', `${path}: ${same} is used by two bridges`);
  }
  return bridges;
}
