import { existsSync, rmSync } from 'node:fs';
import { VvuError, errorMessage } from '../../errors.js';
import type { Native } from '../../native.js';
import type { PresetFile } from './window.js';

/**
 * Opens the file that the window shows, and makes it if it is absent.
 * @throws VvuError of scope `setup` when it is too short or cannot be mapped
 */
export function openPresetFile(
  native: Pick<Native, 'openFile' | 'fdInfo' | 'map' | 'closeFd'>,
  path: string,
  size: number,
  onPoisoned: () => void,
): PresetFile {
  const existed = existsSync(path);
  let fd: number | undefined;
  try {
    fd = native.openFile(path, { writable: true, create: size });
    const { dev, ino, size: fileSize, blockSize, kind } = native.fdInfo(fd);
    if (kind !== 'file') throw new Error(`it is a ${kind}`);
    if (fileSize < size) throw new Error(`it has ${fileSize} bytes, the window needs ${size}`);
    if (size % blockSize !== 0) {
      throw new Error(`the window's ${size} bytes are no multiple of its ${blockSize}-byte pages`);
    }
    const memory = native.map(fd, { offset: 0, length: size, writable: true, onPoisoned });
    return { fd, dev, ino, size, memory };
  } catch (error) {
    if (fd !== undefined) native.closeFd(fd);
    if (!existed) rmSync(path, { force: true });
    throw new VvuError('BAD_WINDOW_FILE', 'setup', `window file ${path}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}
