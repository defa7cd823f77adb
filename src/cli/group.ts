import { readFileSync } from 'node:fs';
import { VvuError } from '../errors.js';

/** The numeric id of a group that is named, or given as a number. */
export function parseGroup(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  for (const line of readFileSync('/etc/group', 'utf8').split('\n')) {
    const [name, , gid] = line.split(':');
    if (name === text && gid !== undefined) return Number(gid);
  }
  throw new VvuError('BAD_OPTION', 'setup', `there is no group '${text}'`);
}
