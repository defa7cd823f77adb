import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VvuError, errorCode } from '../errors.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The 16 bytes of a UUID in its textual order (RFC 9562 §4), as the configuration shows them. */
export function parseUuid(text: string): Buffer {
  if (!UUID.test(text)) {
    throw new VvuError('BAD_UUID', 'setup', `'${text}' is not a UUID (8-4-4-4-12 hex digits)`);
  }
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}

export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20, 32),
  ].join('-');
}

/** A random UUID, version 4. */
export function randomUuid(): Buffer {
  const bytes = randomBytes(16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes;
}

/**
 * The UUID of device `name`, the same at each start with the same state directory. It is made at
 * the first one.
 */
export function persistentUuid(stateDirectory: string, name: string): Buffer {
  const path = join(stateDirectory, `${name}.uuid`);
  try {
    return parseUuid(readFileSync(path, 'utf8').trim());
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw stateError(path, error);
  }
  const uuid = randomUuid();
  try {
    mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });
    writeFileSync(path, `${formatUuid(uuid)}\n`, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    throw stateError(path, error);
  }
  return uuid;
}

function stateError(path: string, error: unknown): VvuError {
  const detail = error instanceof Error ? error.message : String(error);
  return new VvuError('BAD_STATE_FILE', 'setup', `state file ${path}: ${detail}`, { cause: error });
}
