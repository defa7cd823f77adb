import { hex } from './hex.js';

export interface BadMessage {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** fds that come with it; all must be closed. */
  readonly fds?: number;
  /** errno of the reply; 0 for no reply at all; or the reason why the connection ends. */
  readonly expect: number | 'BAD_STREAM';
}

export const EPERM = 1;
export const EEXIST = 17;
export const EINVAL = 22;
export const ERANGE = 34;
export const ENOSYS = 38;
export const ENOTSUP = 95;

export const bad = (
  name: string,
  expect: number | 'BAD_STREAM',
  text: string,
  fds = 0,
): BadMessage => ({
  name,
  expect,
  bytes: hex(text),
  fds,
});
