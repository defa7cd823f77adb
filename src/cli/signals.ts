/**
 * Resolves with the name of the first SIGINT or SIGTERM. A second one ends the process at once, as
 * people expect of Ctrl-C.
 */
export function untilStopped(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => resolve(signal));
    }
  });
}
