import type { Scope } from './support/scope.js';

/** One benchmark: measures, and prints what it found. */
export interface Benchmark {
  readonly name: string;
  /** One line: what is measured. */
  readonly what: string;
  /** Whatever it starts is deferred on `scope`, and ended when it returns or throws. */
  readonly run: (scope: Scope) => Promise<void>;
}
