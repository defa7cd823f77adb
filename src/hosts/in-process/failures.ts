import { VvuError, errorCode, errorMessage } from '../../errors.js';
import type { Logger } from '../../log.js';

/** Runs a port of the hypervisor; what it throws is reported, and the device goes on. */
export type Guard = <T>(run: () => T) => T | undefined;

/** Where the failures of the hypervisor's side go: the log, and listeners of the device. */
export class Failures {
  /** Set when there is a device to listen to. */
  onError: ((error: Error) => void) | undefined;

  constructor(private readonly log: Logger) {}

  readonly report = (thrown: unknown): void => {
    const error =
      thrown instanceof Error ? thrown : new VvuError('PORT', 'bug', errorMessage(thrown));
    this.log.error(
      { code: errorCode(error), error: error.message },
      "the hypervisor's side failed",
    );
    this.onError?.(error);
  };

  readonly guard: Guard = (run) => {
    try {
      return run();
    } catch (error) {
      this.report(error);
      return undefined;
    }
  };
}

/** A listener that throws must not stop the device half-way: its error comes a moment later. */
export function tell(emit: () => void): void {
  try {
    emit();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
