import { setTimeout as sleep } from 'node:timers/promises';
import type { Vm } from './qemu.js';

/** What `query-migrate` says. */
export interface MigrationState {
  readonly status?: string;
  readonly 'error-desc'?: string;
  readonly downtime?: number;
  readonly 'total-time'?: number;
  readonly ram?: {
    readonly transferred: number;
    /** Passes over the memory: each begins with a look at what has become dirty. */
    readonly 'dirty-sync-count': number;
    readonly 'dirty-pages-rate': number;
  };
}

const TIMEOUT = 120_000;
/** Memory that the guest writes again and again, so that there is always more to send. */
const CHURN = [
  'mkdir -p /tmp',
  'head -c 33554432 /dev/urandom > /tmp/churn',
  '(while :; do cp /tmp/churn /tmp/churned; sleep 0.1; done) >/dev/null 2>&1 &',
];
/**
 * Bytes per second, and the downtime in ms that it has to stay under: for the first pass, for one
 * that takes longer than whatever is to happen in it, and for the end.
 */
const FIRST = { 'max-bandwidth': 16 * 2 ** 20, 'downtime-limit': 1 };
const HELD = { 'max-bandwidth': 2 ** 19 };
const LAST = { 'max-bandwidth': 0, 'downtime-limit': 60_000 };

/** One live migration, seen from its source. */
export class Migration {
  private constructor(private readonly source: Vm) {}

  /**
   * Begins to send the source's state to `uri`, where a VM receives. It goes on until `complete`,
   * because the guest writes more memory than may be sent.
   */
  static async begin(source: Vm, uri: string): Promise<Migration> {
    await source.shell(CHURN.join('; '), 60_000);
    await source.qmp('migrate-set-parameters', FIRST);
    await source.qmp('migrate', { uri });
    return new Migration(source);
  }

  async state(): Promise<MigrationState> {
    const state = (await this.source.qmp('query-migrate')) as MigrationState;
    if (state.status === 'failed') throw new Error(`migration: ${state['error-desc']}`);
    return state;
  }

  /** Resolves when all of the memory was sent once; from then on next to nothing is. */
  async hold(): Promise<MigrationState> {
    const state = await this.until('the second pass', ({ status, ram }) => {
      if (status === 'completed') throw new Error('the migration ended by itself');
      return (ram?.['dirty-sync-count'] ?? 0) >= 2;
    });
    await this.source.qmp('migrate-set-parameters', HELD);
    return state;
  }

  /** Lets it end; the source has stopped for good then. */
  async complete(): Promise<MigrationState> {
    await this.source.qmp('migrate-set-parameters', LAST);
    return this.until('its end', ({ status }) => status === 'completed');
  }

  private async until(
    what: string,
    condition: (state: MigrationState) => boolean,
  ): Promise<MigrationState> {
    const end = performance.now() + TIMEOUT;
    for (;;) {
      const state = await this.state();
      if (condition(state)) return state;
      if (performance.now() > end) {
        throw new Error(`migration: waited for ${what}, is ${JSON.stringify(state)}`);
      }
      await sleep(20);
    }
  }
}
