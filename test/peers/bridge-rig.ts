import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Testpmd, type Memory } from '../../src/frontend/testpmd.js';
import type { Traffic } from '../../src/frontend/testpmd-traffic.js';
import { temporaryFolder } from '../support/temporary.js';
import { until } from '../support/until.js';
import { VvuProcess } from '../support/vvu-process.js';

export interface RigOptions {
  readonly queues: number;
  readonly memory: Memory;
  /** `--window` of the device. */
  readonly window: string;
  /** Who listens on the frontend's socket, and who on the backend's; the others connect. */
  readonly frontendListens: boolean;
  readonly backendListens: boolean;
}

/**
 * testpmd (vhost PMD, unmodified) - `vvu bridge` - `vvu device` - testpmd (virtio-user), four
 * processes of which each can be killed and started again on its own.
 */
export class BridgeRig {
  device!: VvuProcess;
  bridge!: VvuProcess;
  backend!: Testpmd;
  frontend!: Testpmd;

  private constructor(
    private readonly folder: string,
    readonly options: RigOptions,
  ) {}

  /** Starts all four, in no order that matters except that who connects comes after who listens. */
  static async start(t: ExecutionContext, options: RigOptions): Promise<BridgeRig> {
    const folder = await temporaryFolder('bridge');
    t.teardown(() => folder.remove());
    const rig = new BridgeRig(folder.path, options);
    t.teardown(() => rig.stop());
    rig.device = await rig.startDevice();
    rig.bridge = await rig.startBridge();
    rig.backend = await rig.startBackend();
    rig.frontend = await rig.startFrontend();
    return rig;
  }

  get vfioUser(): string {
    return join(this.folder, 'vfio-user');
  }

  private get vhostUser(): string {
    return join(this.folder, 'vhost-user');
  }

  private get backendSocket(): string {
    return join(this.folder, 'backend');
  }

  startDevice(): Promise<VvuProcess> {
    const { window, frontendListens } = this.options;
    const mode = frontendListens ? 'client' : 'server';
    const sockets = ['--vfio-user', this.vfioUser, '--vhost-user', this.vhostUser];
    return VvuProcess.start(['device', ...sockets, '--vhost-user-mode', mode, '--window', window]);
  }

  startBridge(): Promise<VvuProcess> {
    const mode = this.options.backendListens ? 'client' : 'server';
    const device = ['--device', `vfio-user:${this.vfioUser}`];
    return VvuProcess.start(['bridge', ...device, '--socket', this.backendSocket, '--mode', mode]);
  }

  async startBackend(): Promise<Testpmd> {
    const { queues, backendListens: server } = this.options;
    // A killed testpmd leaves its socket's file behind, and the next one does not replace it.
    if (server) rmSync(this.backendSocket, { force: true });
    const backend = Testpmd.backend({ socket: this.backendSocket, server, queues });
    try {
      await backend.ready();
      await backend.echo();
    } catch (error) {
      await backend.kill();
      throw error;
    }
    return backend;
  }

  async startFrontend(): Promise<Testpmd> {
    const { queues, memory, frontendListens: server } = this.options;
    const socket = this.vhostUser;
    if (server) rmSync(socket, { force: true });
    else await until(() => existsSync(socket), 'the device');
    const frontend = Testpmd.frontend({ socket, server, queues, memory });
    try {
      await frontend.ready();
      await frontend.link(true);
    } catch (error) {
      await frontend.kill();
      throw error;
    }
    return frontend;
  }

  /** Ends what runs, the frontend first: its end is a conversation with the backend. */
  async stop(): Promise<void> {
    const parts = [this.frontend, this.backend, this.bridge, this.device] as const;
    for (const part of parts as readonly (Testpmd | VvuProcess | undefined)[]) await part?.kill();
  }
}

export function report(t: ExecutionContext, what: string, traffic: Traffic): void {
  const { sent, received, lost, dropped, seconds } = traffic;
  const rate = (received / seconds / 1e6).toFixed(2);
  t.log(`${what}: sent ${sent}, received ${received}, lost ${lost}; ${rate} million packets/s`);
  t.true(sent > 0);
  t.is(lost, 0);
  t.is(dropped, 0);
  t.is(traffic.receivedBytes, traffic.sentBytes);
}
