import { NetFrontend } from '../../frontend/net-frontend.js';
import { runTraffic } from '../../frontend/traffic.js';
import type { DemoFrontend, DemoTraffic } from './frontend.js';

/** Packets per queue pair between two looks at the clock. */
const CHUNK = 2048;

/** Our own small frontend, for machines without DPDK. */
export class BuiltInFrontend implements DemoFrontend {
  readonly name = 'built-in, memory in a memfd of its own';
  #frontend: NetFrontend | undefined;

  constructor(
    private readonly socket: string,
    private readonly queuePairs: number,
  ) {}

  async start(): Promise<void> {
    this.#frontend = NetFrontend.connect(this.socket, { queuePairs: this.queuePairs });
    await this.#frontend.start();
  }

  async run(milliseconds: number): Promise<DemoTraffic> {
    const frontend = this.#frontend;
    if (!frontend) throw new Error('not started');
    const started = performance.now();
    const total = { sent: 0, received: 0 };
    while (performance.now() - started < milliseconds) {
      const { sent, received } = await runTraffic(frontend, { packets: CHUNK });
      total.sent += sent;
      total.received += received;
    }
    const seconds = (performance.now() - started) / 1000;
    return { ...total, lost: total.sent - total.received, seconds };
  }

  async stop(): Promise<void> {
    const frontend = this.#frontend;
    this.#frontend = undefined;
    if (!frontend) return;
    try {
      if (!frontend.closed) await frontend.stop();
    } finally {
      frontend.close();
    }
  }
}
