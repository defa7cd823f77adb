/** Configuration space in a file, read and written at offsets. */
import { readSync, writeSync } from 'node:fs';
import { VvuError } from '../errors.js';

/** Does not own the fd. */
export class ConfigFile {
  constructor(
    private readonly fd: number,
    /** Where configuration space starts in the file. */
    private readonly base = 0,
  ) {}

  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    const count = readSync(this.fd, bytes, 0, length, this.base + offset);
    if (count !== length) throw short('read', offset, length);
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    const count = writeSync(this.fd, bytes, 0, bytes.length, this.base + offset);
    if (count !== bytes.length) throw short('write', offset, bytes.length);
  }
}

/** Linux shows processes without privileges the first 64 bytes alone. */
function short(what: string, offset: number, length: number): VvuError {
  return new VvuError(
    'CONFIG_SPACE',
    'setup',
    `cannot ${what} ${length} bytes at 0x${offset.toString(16)} of configuration space`,
  );
}
