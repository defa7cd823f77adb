import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
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
    return readUuid(path) ?? createUuid(stateDirectory, path);
  } catch (error) {
    throw stateError(path, error);
  }
}

function readUuid(path: string): Buffer | undefined {
  try {
    return parseUuid(readFileSync(path, 'utf8').trim());
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** The file appears whole or not at all, and of two processes that make it the first one wins. */
function createUuid(stateDirectory: string, path: string): Buffer {
  makeDirectory(stateDirectory);
  const uuid = randomUuid();
  const draft = `${path}.${process.pid}`;
  try {
    writeFileSync(draft, `${formatUuid(uuid)}\n`, { mode: 0o600 });
    linkSync(draft, path);
    return uuid;
  } catch (error) {
    const other = errorCode(error) === 'EEXIST' ? readUuid(path) : undefined;
    if (other) return other;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

/**
 * With its parents. Not by mkdir's own recursion, which goes round for ever where the parent is
 * there and the system answers ENOENT all the same, as below /proc.
 */
function makeDirectory(path: string): void {
  const make = (): boolean => {
    try {
      mkdirSync(path, { mode: 0o700 });
    } catch (error) {
      const code = errorCode(error);
      if (code === 'ENOENT') return false;
      if (code !== 'EEXIST') throw error;
    }
    return true;
  };
  if (make()) return;
  if (dirname(path) !== path) makeDirectory(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}

function stateError(path: string, error: unknown): VvuError {
  const detail = error instanceof Error ? error.message : String(error);
  return new VvuError('BAD_STATE_FILE', 'setup', `state file ${path}: ${detail}`, { cause: error });
}
