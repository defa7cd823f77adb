import { Testpmd } from '../../frontend/testpmd.js';
import { circulate } from '../../frontend/testpmd-traffic.js';
import type { DemoFrontend, DemoTraffic } from './frontend.js';

/** DPDK's virtio-user, run by testpmd: a frontend that nobody here wrote. */
export class TestpmdFrontend implements DemoFrontend {
  readonly name = 'dpdk-testpmd (DPDK virtio-user), memory in a memfd of its own';
  #testpmd: Testpmd | undefined;

  constructor(
    private readonly socket: string,
    private readonly queues: number,
  ) {}

  async start(): Promise<void> {
    const { socket, queues } = this;
    this.#testpmd = Testpmd.frontend({ socket, server: false, queues });
    await this.#testpmd.ready();
    await this.#testpmd.link(true);
  }

  async run(milliseconds: number): Promise<DemoTraffic> {
    if (!this.#testpmd) throw new Error('not started');
    return circulate(this.#testpmd, { milliseconds });
  }

  async stop(): Promise<void> {
    await this.#testpmd?.stop();
    this.#testpmd = undefined;
  }
}
