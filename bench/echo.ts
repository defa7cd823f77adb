import type { Benchmark } from './benchmark.js';
import { builtInMovers } from './echo-built-in.js';
import { dpdkMovers } from './echo-dpdk.js';
import { compareRates } from './support/rates.js';
import { Scope } from './support/scope.js';
import { testpmdMissing } from '../src/frontend/testpmd.js';
import { hugepagesMissing } from '../test/support/hugepages.js';

const ROUNDS = 3;

export const echo: Benchmark = {
  name: 'echo',
  what: '60-byte packets through the echo backend and back, one queue pair',
  async run() {
    console.log('  frontend: ours, in TypeScript');
    await Scope.run(async (own) => compareRates(await builtInMovers(own), ROUNDS));
    const missing = testpmdMissing() ?? hugepagesMissing();
    if (missing !== undefined) {
      console.log(`  without DPDK: ${missing}`);
      return;
    }
    console.log("  frontend: DPDK's virtio-user");
    await Scope.run(async (own) => compareRates(await dpdkMovers(own), ROUNDS));
  },
};
