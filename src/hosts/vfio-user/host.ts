import type { VhostUserDevice } from '../../device/device.js';
import type { Native } from '../../native.js';
import { Cleanup } from '../cleanup.js';
import type { LayoutPlan } from '../layout.js';
import type { AssembledFunction } from './assemble.js';
import { assembleFunction } from './assemble.js';
import { ClientEndpoint } from './client-endpoint.js';
import type { VfioUserDeviceOptions } from './options.js';

/**
 * One virtio-vhost-user device that listens on its two sockets. It survives vfio-user clients and
 * frontends, and serves the next ones; one of each at a time.
 */
export class VfioUserDeviceHost {
  /** @internal */
  constructor(
    readonly options: VfioUserDeviceOptions,
    private readonly assembled: AssembledFunction,
    private readonly clients: ClientEndpoint,
    private readonly cleanup: Cleanup,
  ) {}

  get device(): VhostUserDevice {
    return this.assembled.device;
  }

  /** Where the registers are. */
  get plan(): LayoutPlan {
    return this.assembled.plan;
  }

  /** Textual UUID of the device. */
  get uuid(): string {
    return this.assembled.uuid;
  }

  /** Whether a vfio-user client is attached. */
  get attached(): boolean {
    return this.clients.connected;
  }

  /** DMA maps of the client, and the files that are mapped for them. */
  get dma(): { readonly maps: number; readonly files: number } {
    return this.assembled.dma.counts;
  }

  /**
   * Ends both connections, and removes both socket files. When it resolves no fd, mapping or
   * thread of the device is left.
   */
  close(): Promise<void> {
    return this.cleanup.run();
  }
}

/**
 * Makes a device and listens on both of its sockets.
 * @throws VvuError of scope `setup`: a socket that is in use, a window file that is too short, ...
 */
export function createVfioUserDevice(
  options: VfioUserDeviceOptions,
  native: Native,
): VfioUserDeviceHost {
  const cleanup = new Cleanup();
  try {
    const clients = new ClientEndpoint(options, native);
    const assembled = assembleFunction(options, native, clients, cleanup);
    cleanup.defer(() => clients.close());
    clients.listen(assembled);
    return new VfioUserDeviceHost(options, assembled, clients, cleanup);
  } catch (error) {
    // The steps so far are synchronous in effect; what they reject with adds nothing to `error`.
    void cleanup.run().catch(() => undefined);
    throw error;
  }
}
