import { errnoName, errnoNumber, Errno, type ErrnoName } from './errno.js';

/**
 * Everything that the package throws or rejects with. `errno` is what a reply carries; a broken
 * connection is `ENOTCONN`, a reply that did not come in time `ETIMEDOUT`, and a peer that broke
 * the protocol `EPROTO`.
 */
export class VfioUserError extends Error {
  override readonly name = 'VfioUserError';
  /** The errno's name, for example `EINVAL`; stable. */
  readonly code: string;
  /** Linux errno, positive; 0 if the peer reported an error without saying which. */
  readonly errno: number;
  /** Whether the peer refused the request (an error reply), rather than this side. */
  readonly remote: boolean;

  constructor(errno: number | ErrnoName, message: string, options: { remote?: boolean } = {}) {
    super(message);
    this.errno = typeof errno === 'number' ? errno : Errno[errno];
    this.code = errnoName(this.errno);
    this.remote = options.remote ?? false;
  }
}

/**
 * The errno to answer with when a handler threw: that of a {@link VfioUserError}, that of an error
 * whose `code` is an errno name (Node's system errors), and `fallback` for anything else.
 */
export function errnoOf(error: unknown, fallback: number = Errno.EIO): number {
  if (error instanceof VfioUserError) return error.errno === 0 ? fallback : error.errno;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return errnoNumber(error.code) ?? fallback;
  }
  return fallback;
}

/** One line for a log, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
