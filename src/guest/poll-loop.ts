/** Something that does a bounded amount of work. */
export interface Pollable {
  /** @returns how much was done, 0 when idle */
  poll(): number;
}

/** Rounds between two visits of the event loop, so that sockets and timers get their turn. */
const ROUNDS_PER_TURN = 64;

/** A poll-mode loop on the event loop of this thread. */
export class PollLoop {
  #running = true;
  readonly #done: Promise<void>;

  /** Starts at once. A source that throws ends the loop, and `stop` rejects with it. */
  constructor(private readonly sources: readonly Pollable[]) {
    this.#done = new Promise((resolve, reject) => {
      const turn = (): void => {
        try {
          this.#turn();
        } catch (error) {
          this.#running = false;
          reject(error instanceof Error ? error : new Error(String(error)));
          return;
        }
        if (this.#running) setImmediate(turn);
        else resolve();
      };
      setImmediate(turn);
    });
  }

  /** Settles when the loop has ended, by `stop` or by an error. */
  get ended(): Promise<void> {
    return this.#done;
  }

  stop(): Promise<void> {
    this.#running = false;
    return this.#done;
  }

  #turn(): void {
    for (let round = 0; round < ROUNDS_PER_TURN; round++) {
      let work = 0;
      for (const source of this.sources) work += source.poll();
      if (work === 0) return;
    }
  }
}
