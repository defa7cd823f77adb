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
/** More than is sent in a second while the migration is to last. */
const CHURN = [
  'mkdir -p /tmp',
  'head -c 16777216 /dev/urandom > /tmp/churn',
  '(while :; do cp /tmp/churn /tmp/churned; sleep 0.1; done) >/dev/null 2>&1 &',
];
/** Bytes per second, and the downtime in ms that it has to stay under. */
const SLOW = { 'max-bandwidth': 32 * 2 ** 20, 'downtime-limit': 1 };
const FAST = { 'max-bandwidth': 0, 'downtime-limit': 60_000 };

/** One live migration, seen from its source. */
export class Migration {
  private constructor(private readonly source: Vm) {}

  /**
   * Begins to send the source's state to `uri`, where a VM receives. It goes on until `complete`,
   * because the guest writes more memory than it may send.
   */
  static async begin(source: Vm, uri: string): Promise<Migration> {
    await source.shell(CHURN.join('; '), 60_000);
    await source.qmp('migrate-set-parameters', SLOW);
    await source.qmp('migrate', { uri });
    return new Migration(source);
  }

  async state(): Promise<MigrationState> {
    const state = (await this.source.qmp('query-migrate')) as MigrationState;
    if (state.status === 'failed') throw new Error(`migration: ${state['error-desc']}`);
    return state;
  }

  /** Resolves when `count` more passes have begun. */
  async passes(count: number): Promise<MigrationState> {
    const from = (await this.state()).ram?.['dirty-sync-count'] ?? 0;
    return this.until(`pass ${from + count}`, ({ status, ram }) => {
      if (status === 'completed')
        throw new Error(`the migration ended by itself: ${JSON.stringify(ram)}`);
      return (ram?.['dirty-sync-count'] ?? 0) >= from + count;
    });
  }

  /** Lets it end; the source has stopped for good then. */
  async complete(): Promise<MigrationState> {
    await this.source.qmp('migrate-set-parameters', FAST);
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
