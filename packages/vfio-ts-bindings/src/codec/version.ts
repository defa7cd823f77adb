import { VfioUserError } from '../errors.js';
import { WireReader, WireWriter } from '../wire.js';
import type { Codec } from './codec.js';

/** VFIO_USER_VERSION, request and reply. */
export interface VersionPayload {
  readonly major: number;
  readonly minor: number;
  /** The JSON text without its NUL, or undefined where there is no version data. */
  readonly data: string | undefined;
}

const FIXED = 4;

export const versionCodec: Codec<VersionPayload> = {
  decode(payload) {
    const reader = new WireReader(payload, FIXED, 'version');
    const major = reader.u16();
    const minor = reader.u16();
    const bytes = reader.bytes(reader.remaining);
    return { major, minor, data: bytes.length === 0 ? undefined : decodeText(bytes) };
  },
  encode({ major, minor, data }) {
    const text = data === undefined ? new Uint8Array(0) : new TextEncoder().encode(`${data}\0`);
    return new WireWriter(FIXED + text.length).u16(major).u16(minor).put(text).bytes;
  },
};

/** UTF-8 with a terminating NUL, and none before it. */
function decodeText(bytes: Uint8Array): string {
  if (bytes.indexOf(0) !== bytes.length - 1) {
    throw new VfioUserError('EINVAL', 'version data does not end with its only NUL');
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, -1));
  } catch {
    throw new VfioUserError('EINVAL', 'version data is not UTF-8');
  }
}
