import {
  REGION_REMAP_DEFAULT_MAX_OPS,
  VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  VFIO_USER_DEFAULT_MAX_DMA_MAPS,
  VFIO_USER_DEFAULT_MAX_MSG_FDS,
  VFIO_USER_DEFAULT_PGSIZES,
} from './constants.js';
import { VfioUserError } from './errors.js';

/** The capabilities of a VERSION message; a member is undefined where the peer said nothing. */
export interface Capabilities {
  readonly maxMsgFds: number | undefined;
  readonly maxDataXferSize: number | undefined;
  readonly maxDmaMaps: number | undefined;
  readonly pgsizes: number | undefined;
  readonly writeMultiple: boolean | undefined;
  /** Operations per region_remap command, if the extension is offered. */
  readonly remapOps: number | undefined;
}

/** Nesting that real version data needs: object, capabilities, migration or twin_socket. */
const MAX_DEPTH = 8;

type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Reads version data. Unknown capabilities are ignored, `twin_socket` and `migration` too, because
 * neither is offered here.
 * @throws VfioUserError EINVAL: no JSON, too long, nested too deep, or a member of the wrong type
 */
export function parseCapabilities(text: string | undefined, maxLength: number): Capabilities {
  const caps = capabilitiesObject(text, maxLength);
  return {
    maxMsgFds: numberMember(caps, 'max_msg_fds', 0),
    maxDataXferSize: numberMember(caps, 'max_data_xfer_size', 1),
    maxDmaMaps: numberMember(caps, 'max_dma_maps', 0),
    pgsizes: numberMember(caps, 'pgsizes', 1),
    writeMultiple: booleanMember(caps, 'write_multiple'),
    remapOps: remapMember(caps),
  };
}

/** The value of a capability, or the specification's default for a peer that said nothing. */
export function withDefaults(caps: Capabilities): {
  readonly maxMsgFds: number;
  readonly maxDataXferSize: number;
  readonly maxDmaMaps: number;
  readonly pgsizes: number;
} {
  return {
    maxMsgFds: caps.maxMsgFds ?? VFIO_USER_DEFAULT_MAX_MSG_FDS,
    maxDataXferSize: caps.maxDataXferSize ?? VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
    maxDmaMaps: caps.maxDmaMaps ?? VFIO_USER_DEFAULT_MAX_DMA_MAPS,
    pgsizes: caps.pgsizes ?? VFIO_USER_DEFAULT_PGSIZES,
  };
}

function capabilitiesObject(text: string | undefined, maxLength: number): JsonObject {
  if (text === undefined) return {};
  // The NUL counts; UTF-8 is never shorter than the string has characters.
  if (text.length + 1 > maxLength) {
    throw new VfioUserError('EINVAL', `version data of ${text.length + 1} bytes is too long`);
  }
  checkDepth(text);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new VfioUserError('EINVAL', 'version data is not JSON');
  }
  if (!isObject(parsed)) throw new VfioUserError('EINVAL', 'version data is no JSON object');
  const caps = member(parsed, 'capabilities');
  if (caps === undefined) return {};
  if (!isObject(caps)) throw new VfioUserError('EINVAL', 'capabilities is no JSON object');
  return caps;
}

/** Counts brackets outside of strings, before a parser gets to see the text. */
function checkDepth(text: string): void {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i];
    if (inString) {
      if (char === '\\') i += 1;
      else if (char === '"') inString = false;
    } else if (char === '"') {
      inString = true;
    } else if (char === '{' || char === '[') {
      depth += 1;
      if (depth > MAX_DEPTH) throw new VfioUserError('EINVAL', 'version data is nested too deep');
    } else if (char === '}' || char === ']') {
      depth -= 1;
    }
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Own members only: a peer's `__proto__` or `constructor` means nothing. */
function member(object: JsonObject, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

function numberMember(caps: JsonObject, name: string, minimum: number): number | undefined {
  const value = member(caps, name);
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < minimum) {
    throw new VfioUserError('EINVAL', `capability ${name} is no integer of ${minimum} or more`);
  }
  return value;
}

function booleanMember(caps: JsonObject, name: string): boolean | undefined {
  const value = member(caps, name);
  if (value === undefined || typeof value === 'boolean') return value;
  throw new VfioUserError('EINVAL', `capability ${name} is no boolean`);
}

/** `true`, or an object that may say `max_ops`. */
function remapMember(caps: JsonObject): number | undefined {
  const value = member(caps, 'region_remap');
  if (value === undefined || value === false) return undefined;
  if (value === true) return REGION_REMAP_DEFAULT_MAX_OPS;
  if (isObject(value)) return numberMember(value, 'max_ops', 1) ?? REGION_REMAP_DEFAULT_MAX_OPS;
  throw new VfioUserError('EINVAL', 'capability region_remap is neither true nor an object');
}
