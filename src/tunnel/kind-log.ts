import type { Logger } from '../log.js';

/** Kinds of events that are warned of, per connection. */
const MAX_REPORTED = 16;

/** Warns once per kind, so that nobody can fill the log; the rest is for `debug`. */
export class KindLog {
  readonly #reported = new Set<string>();

  constructor(private readonly log: Logger) {}

  report(kind: string, text: string, fields: object = {}): void {
    if (this.#reported.size < MAX_REPORTED && !this.#reported.has(kind)) {
      this.#reported.add(kind);
      this.log.warn({ kind, ...fields }, text);
    } else {
      this.log.debug({ kind, ...fields }, text);
    }
  }
}
