import { InvalidArgumentError } from 'commander';
import { errorMessage } from '../errors.js';

/** A parser of ours as commander wants it: its errors become usage errors. */
export function argument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(errorMessage(error));
    }
  };
}
