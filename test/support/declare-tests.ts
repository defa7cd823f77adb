import test, { type ExecutionContext } from 'ava';
import { Unavailable } from './packages.js';

/** Declares one serial test. */
export type DeclareTest = (title: string, body: (t: ExecutionContext) => Promise<void>) => void;

/**
 * `test.serial`, or, when there is a reason why this file's tests cannot run on this machine,
 * their skipping, with the reason in one line. Under CI nothing may be skipped: there it throws,
 * which fails the file.
 */
export function declareTests(reason: string | undefined): DeclareTest {
  if (reason === undefined) return test.serial;
  if (process.env['CI'] === 'true') throw new Error(`cannot run under CI: ${reason}`);
  console.log(`skipped: ${reason}`);
  return test.serial.skip;
}

/** What `prepare` made, or why this machine cannot have it; other errors pass. */
export async function available<T>(
  prepare: () => Promise<T>,
): Promise<{ value: T; reason?: undefined } | { value?: undefined; reason: string }> {
  try {
    return { value: await prepare() };
  } catch (error) {
    if (error instanceof Unavailable) return { reason: error.message };
    throw error;
  }
}
