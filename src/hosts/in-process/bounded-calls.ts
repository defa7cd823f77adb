import type { Clock } from '../../clock.js';
import { VvuError } from '../../errors.js';

/**
 * Calls of a hypervisor's asynchronous port, each with a limit of time. A call that exceeds it is
 * given up, and until it settles after all no other one is made: nobody knows what the hypervisor
 * is still doing with the first.
 */
export class BoundedCalls {
  #stuck: string | undefined;

  constructor(
    private readonly limitMs: number,
    private readonly clock: Clock,
    private readonly failed: (error: unknown) => void,
  ) {}

  /**
   * Makes the call. A failure is reported and thrown; that an earlier call still runs is thrown.
   * @param late called when a call that was given up has succeeded after all
   */
  async run(what: string, call: () => void | Promise<void>, late: () => void): Promise<void> {
    if (this.#stuck !== undefined) {
      throw new VvuError('PORT_STUCK', 'request', `${what}: ${this.#stuck} has not ended yet`);
    }
    try {
      await this.#bounded(what, call, late);
    } catch (error) {
      this.failed(error);
      throw error;
    }
  }

  async #bounded(what: string, call: () => void | Promise<void>, late: () => void): Promise<void> {
    const work = (async () => call())();
    let cancel = (): void => undefined;
    const limit = new Promise<'late'>((resolve) => {
      cancel = this.clock.after(this.limitMs, () => resolve('late'));
    });
    const outcome = await Promise.race([work, limit]).finally(() => cancel());
    if (outcome !== 'late') return;
    this.#stuck = what;
    const free = (): void => (this.#stuck = undefined);
    work.finally(free).then(late, this.failed);
    const detail = `${what} has not ended after ${this.limitMs} ms`;
    throw new VvuError('PORT_TIMEOUT', 'request', detail);
  }
}
