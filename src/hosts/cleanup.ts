/**
 * What has to be undone, in reverse order. A constructor that fails half-way runs it, and so does
 * `close` of what was constructed.
 */
export class Cleanup {
  readonly #steps: (() => void | Promise<void>)[] = [];

  /** Remembers how to undo what was just done. */
  defer(step: () => void | Promise<void>): void {
    this.#steps.push(step);
  }

  /** Undoes everything, once. A step that fails does not keep the others from running. */
  async run(): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, 'not everything could be undone');
  }
}
