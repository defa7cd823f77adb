import { VvuError } from '../errors.js';

const SIZE = /^(\d+)([KMGT]?)(?:iB|B)?$/i;
const SHIFT: Readonly<Record<string, number>> = { '': 0, K: 1, M: 2, G: 3, T: 4 };
const PCI_ID = /^([0-9a-f]{4}):([0-9a-f]{4})$/i;
const MODE = /^0?[0-7]{3}$/;

/** Says what is wrong with a value; whoever parses options or a file says where it stood. */
function bad(value: string, expected: string): VvuError {
  return new VvuError('BAD_OPTION', 'setup', `'${value}' is not ${expected}`);
}

/** Bytes of `4096`, `64M`, `4G`; units are powers of 1024. */
export function parseSize(text: string): number {
  const match = SIZE.exec(text.trim());
  if (!match) throw bad(text, 'a size such as 512M or 4G');
  const bytes = Number(match[1]) * 1024 ** (SHIFT[(match[2] ?? '').toUpperCase()] ?? 0);
  if (!Number.isSafeInteger(bytes) || bytes === 0) throw bad(text, 'a usable size');
  return bytes;
}

/** The largest unit that leaves no fraction: `4G`, `1536M`. */
export function formatSize(bytes: number): string {
  for (const unit of ['T', 'G', 'M', 'K']) {
    const scale = 1024 ** (SHIFT[unit] ?? 0);
    if (bytes >= scale && bytes % scale === 0) return `${bytes / scale}${unit}`;
  }
  return String(bytes);
}

export interface WindowSetting {
  /** Preset file: the frontend VM's RAM. */
  readonly path?: string | undefined;
  /** Bytes of the preset file, or of the window where there is none. */
  readonly size: number;
  /** Bytes kept for regions that are not in the preset file, default 0. */
  readonly trapped?: number | undefined;
}

/** `path=FILE,size=SIZE[,trapped=SIZE]` or `size=SIZE`. */
export function parseWindow(text: string): WindowSetting {
  const fields = new Map<string, string>();
  for (const part of text.split(',')) {
    const at = part.indexOf('=');
    const key = at < 0 ? part : part.slice(0, at);
    if (at < 0 || !['path', 'size', 'trapped'].includes(key) || fields.has(key)) {
      throw bad(text, 'path=FILE,size=SIZE[,trapped=SIZE]');
    }
    fields.set(key, part.slice(at + 1));
  }
  const [path, size, trapped] = [fields.get('path'), fields.get('size'), fields.get('trapped')];
  if (size === undefined || path === '') {
    throw bad(text, 'path=FILE,size=SIZE[,trapped=SIZE]');
  }
  return {
    path,
    size: parseSize(size),
    trapped: trapped === undefined ? undefined : parseSize(trapped),
  };
}

export interface PciId {
  readonly vendor: number;
  readonly device: number;
}

/** `1af4:1058`. */
export function parsePciId(text: string): PciId {
  const match = PCI_ID.exec(text);
  if (!match) throw bad(text, 'VVVV:DDDD in hexadecimal');
  return { vendor: parseInt(match[1] ?? '', 16), device: parseInt(match[2] ?? '', 16) };
}

/** Octal permission bits such as `0600`. */
export function parseMode(text: string): number {
  if (!MODE.test(text)) throw bad(text, 'an octal mode such as 0600');
  return parseInt(text, 8);
}

/** A whole number in a range, for options. */
export function parseInteger(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) throw bad(text, `a whole number ${min}..${max}`);
    return value;
  };
}

/** One of a list of words. */
export function parseChoice<T extends string>(choices: readonly T[]): (text: string) => T {
  return (text) => {
    const found = choices.find((choice) => choice === text);
    if (found === undefined) throw bad(text, `one of ${choices.join(', ')}`);
    return found;
  };
}

/** Some words of a list, separated by commas. */
export function parseList<T extends string>(choices: readonly T[]): (text: string) => T[] {
  const one = parseChoice(choices);
  return (text) => text.split(',').map((word) => one(word.trim()));
}
