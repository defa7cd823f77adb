/** Linux errno values (asm-generic) that travel in the Error field of a reply header. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  ENOTTY: 25,
  ENOSPC: 28,
  EPIPE: 32,
  ERANGE: 34,
  ENOSYS: 38,
  EPROTO: 71,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  ENOTSUP: 95,
  ECONNRESET: 104,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
} as const;

export type ErrnoName = keyof typeof Errno;

const namesByNumber = new Map<number, string>(
  Object.entries(Errno).map(([name, value]) => [value, name]),
);

/** `EINVAL` for 22; `ERRNO_<n>` for a number that has no name here. */
export function errnoName(errno: number): string {
  return namesByNumber.get(errno) ?? `ERRNO_${errno}`;
}

/** The number of an errno name, if it is one that is known here. */
export function errnoNumber(name: string): number | undefined {
  return Object.hasOwn(Errno, name) ? Errno[name as ErrnoName] : undefined;
}
