/** Delays between attempts: doubling from `first` to `last` milliseconds, with jitter. */
export class Backoff {
  #delay: number;

  constructor(
    private readonly first: number,
    private readonly last: number,
    /** In [0, 1), like Math.random. */
    private readonly random: () => number,
  ) {
    this.#delay = first;
  }

  /**
   * Milliseconds until the next attempt: between half and all of the current delay, so that many
   * devices that lost the same peer do not come back in step.
   */
  next(): number {
    const delay = this.#delay;
    this.#delay = Math.min(this.last, delay * 2);
    return Math.round(delay * (0.5 + 0.5 * this.random()));
  }

  /** Starts over after a success. */
  reset(): void {
    this.#delay = this.first;
  }
}
