import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { VvuError, errorMessage } from '../errors.js';

/** A value that is written as text on the command line and may be a number in a file. */
export function textOr<T>(parse: (text: string) => T): z.ZodType<T, string | number> {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    try {
      return parse(String(value));
    } catch (error) {
      context.addIssue({ code: 'custom', message: errorMessage(error) });
      return z.NEVER;
    }
  });
}

export const text = z.string().min(1);

/** @throws VvuError of scope `setup` that names the file, each field and what is wrong with it */
export function readJsonFile<T>(path: string, schema: z.ZodType<T>): T {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new VvuError('BAD_CONFIG', 'setup', `${path}: ${errorMessage(error)}`, { cause: error });
  }
  const result = schema.safeParse(parsed);
  if (!result.success) {
    const issues = result.error.issues.map(
      ({ path: at, message }) => `${at.join('.') || 'file'}: ${message}`,
    );
    throw new VvuError('BAD_CONFIG', 'setup', `${path}: ${issues.join('; ')}`);
  }
  return result.data;
}
