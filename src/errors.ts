/**
 * What the code that receives an error may do about it:
 * - `request`: reject the one request, the peer may go on;
 * - `peer`: drop the peer's connection, the device goes on;
 * - `device`: the device needs a reset by its driver (virtio 1.3 §2.1.2);
 * - `setup`: wrong options or environment, told to the operator;
 * - `bug`: our own contract was broken.
 */
export type ErrorScope = 'request' | 'peer' | 'device' | 'setup' | 'bug';

/** An error with a stable code (upper case, machine-readable) and a scope. */
export class VvuError extends Error {
  override readonly name = 'VvuError';

  constructor(
    /** Stable machine-readable code, for example `DESCRIPTOR_LOOP`. */
    readonly code: string,
    readonly scope: ErrorScope,
    /** One line that says what was wrong and with which value. */
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The error's stable code, or `UNKNOWN` for something that is not one of ours. */
export function errorCode(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return error.code;
  }
  return 'UNKNOWN';
}

/** One line for a log, whatever was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
