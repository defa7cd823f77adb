import { VfioUserError } from '../errors.js';

/**
 * Syntax of one payload. `decode` proves sizes, reserved fields and overflow and never looks at the
 * state of a session; views in the result are only valid as long as the payload.
 */
export interface Codec<T> {
  /** @throws VfioUserError EINVAL (malformed) or ERANGE (2^53 or more where a number is needed) */
  decode(payload: Uint8Array): T;
  encode(value: T): Uint8Array;
}

/** No payload at all. */
export const emptyCodec: Codec<undefined> = {
  decode(payload) {
    checkLength(payload, 0, 'payload');
    return undefined;
  },
  encode: () => new Uint8Array(0),
};

/** @throws VfioUserError EINVAL unless the payload is exactly `length` bytes long */
export function checkLength(payload: Uint8Array, length: number, what: string): void {
  if (payload.length !== length) {
    throw new VfioUserError('EINVAL', `${what} of ${payload.length} bytes, must be ${length}`);
  }
}

/** @throws VfioUserError EINVAL if a field that must be zero is not */
export function checkZero(value: number | bigint, what: string): void {
  if (BigInt(value) !== 0n) throw new VfioUserError('EINVAL', `${what} must be zero, is ${value}`);
}

/** @throws VfioUserError EINVAL if bits outside of `known` are set */
export function checkFlags(flags: number, known: number, what: string): void {
  if ((flags & ~known) !== 0) {
    throw new VfioUserError('EINVAL', `unknown bits in ${what} 0x${flags.toString(16)}`);
  }
}

/** @throws VfioUserError EINVAL if argsz leaves no room for the fixed part of the structure */
export function checkArgsz(argsz: number, minimum: number): void {
  if (argsz < minimum) {
    throw new VfioUserError('EINVAL', `argsz ${argsz} is below ${minimum}`);
  }
}
