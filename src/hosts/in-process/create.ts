import { DEFAULT_MAX_VHOST_QUEUES } from '../../device/constants.js';
import { VhostUserDevice } from '../../device/device.js';
import { formatUuid, parseUuid, randomUuid } from '../../device/identity.js';
import type { DoorbellHost } from '../../device/ports.js';
import { errorMessage } from '../../errors.js';
import type { Logger } from '../../log.js';
import { silentLogger } from '../../log.js';
import type { Native } from '../../native.js';
import { native as defaultNative } from '../../native.js';
import { FunctionInterrupts } from '../../pci/index.js';
import { SocketEndpoint } from '../../tunnel/index.js';
import { Cleanup } from '../cleanup.js';
import { createFunction, defaultPciId } from '../function.js';
import type { LayoutPlan } from '../layout.js';
import { planLayout } from '../layout.js';
import { VirtioVhostUserFunction } from './function.js';
import { openGuestMemory } from './guest-memory.js';
import type { Guard } from './interrupts.js';
import { PortInterrupts } from './interrupts.js';
import type { DoorbellPort, VirtioVhostUserOptions } from './options.js';
import { checkOptions } from './validate.js';
import { PortWindow } from './window.js';

/**
 * Makes a device for a hypervisor in this process, and opens its vhost-user socket.
 * @throws VvuError of scope `setup` for options that cannot be met
 */
export function createVirtioVhostUserDevice(
  options: VirtioVhostUserOptions,
  native: Native = defaultNative,
): VirtioVhostUserFunction {
  checkOptions(options);
  const cleanup = new Cleanup();
  try {
    return assemble(options, native, cleanup);
  } catch (error) {
    // The steps so far are synchronous in effect; what they reject with adds nothing to `error`.
    void cleanup.run().catch(() => undefined);
    throw error;
  }
}

function assemble(
  options: VirtioVhostUserOptions,
  native: Native,
  cleanup: Cleanup,
): VirtioVhostUserFunction {
  const logger = options.logger ?? silentLogger;
  const maxVhostQueues = options.maxVhostQueues ?? DEFAULT_MAX_VHOST_QUEUES;
  const { layout = 'split' } = options;
  const plan = planLayout(layout, maxVhostQueues, options.window.size);
  const uuid = options.uuid === undefined ? randomUuid() : parseUuid(options.uuid);
  const report: { to?: VirtioVhostUserFunction } = {};
  const failed = (error: unknown): void => {
    logger.error({ error: errorMessage(error) }, 'a port of the hypervisor failed');
    report.to?.emit('error', error instanceof Error ? error : new Error(String(error)));
  };
  const guard: Guard = (run) => {
    try {
      return run();
    } catch (error) {
      failed(error);
      return undefined;
    }
  };
  const lost = () => failed(new Error("the guest's memory file shrank"));
  const memory = openGuestMemory(options.memory, native, lost, cleanup);
  const window = new PortWindow(options.window, failed);
  const interrupts = new FunctionInterrupts({
    host: new PortInterrupts(native, options.interrupts, guard),
    vectors: plan.vectors,
    ownership: 'function',
  });
  const endpoint = createEndpoint(options, native, logger);
  const host = {
    doorbells: doorbellHost(plan, options.doorbells, guard),
    kicks: interrupts,
    window,
  };
  const device = new VhostUserDevice({ native, host, endpoint, uuid, maxVhostQueues, logger });
  cleanup.defer(() => device.close());
  endpoint.open();
  const id = options.pciId ?? defaultPciId(layout);
  const shared = { device, plan, memory, interrupts, id, logger };
  const pci = createFunction({ ...shared, window: window.block });
  const place = { ...plan.window, size: window.size };
  const result = new VirtioVhostUserFunction(pci, place, formatUuid(uuid), cleanup);
  report.to = result;
  forward(device, result);
  return result;
}

function createEndpoint(
  { vhostUserMode: mode = 'server', vhostUserPath: path, ...options }: VirtioVhostUserOptions,
  native: Native,
  logger: Logger,
): SocketEndpoint {
  const permissions = {
    ...(options.socketMode !== undefined && { mode: options.socketMode }),
    ...(options.socketGid !== undefined && { gid: options.socketGid }),
  };
  return new SocketEndpoint({
    mode,
    path,
    native,
    log: logger.child({ socket: 'vhost-user' }),
    permissions,
  });
}

/** Stores that are not signalled by the hypervisor itself arrive through `barWrite`. */
function doorbellHost(
  plan: LayoutPlan,
  port: DoorbellPort | undefined,
  guard: Guard,
): DoorbellHost {
  const { bar, offset, stride, count } = plan.doorbells;
  return {
    bind: (index, eventfd) => {
      const binding =
        index < count
          ? guard(() => port?.bind(bar, offset + index * stride, stride, eventfd))
          : undefined;
      return { close: () => guard(() => binding?.close()) };
    },
  };
}

function forward(device: VhostUserDevice, to: VirtioVhostUserFunction): void {
  device.events.on('frontend-connected', () => to.emit('frontend-connected'));
  device.events.on('frontend-disconnected', (code, detail) =>
    to.emit('frontend-disconnected', code, detail),
  );
  device.events.on('memory-table', (regions) => {
    const table = regions.map(({ region, placement }) => ({
      role: region.role,
      guestAddress: region.guestAddress,
      length: region.length,
      windowOffset: placement.offset,
      mapped: placement.kind === 'dynamic',
    }));
    to.emit('memory-table', table);
  });
  device.events.on('needs-reset', (reason) => to.emit('needs-reset', reason));
}
