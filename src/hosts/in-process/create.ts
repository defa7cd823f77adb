import { systemClock } from '../../clock.js';
import { DEFAULT_MAX_VHOST_QUEUES } from '../../device/constants.js';
import { VhostUserDevice } from '../../device/device.js';
import { formatUuid, parseUuid, randomUuid } from '../../device/identity.js';
import type { DoorbellHost } from '../../device/ports.js';
import type { Logger } from '../../log.js';
import { silentLogger } from '../../log.js';
import { native } from '../../native.js';
import { FunctionInterrupts } from '../../pci/index.js';
import { SocketEndpoint } from '../../tunnel/index.js';
import { Cleanup } from '../cleanup.js';
import { createFunction, defaultPciId } from '../function.js';
import type { LayoutPlan } from '../layout.js';
import { planLayout } from '../layout.js';
import type { Guard } from './failures.js';
import { Failures, tell } from './failures.js';
import { VirtioVhostUserFunction } from './function.js';
import { openGuestMemory } from './guest-memory.js';
import { PortInterrupts } from './interrupts.js';
import type { DoorbellPort, VirtioVhostUserOptions } from './options.js';
import { checkOptions } from './validate.js';
import { PortWindow } from './window.js';

/**
 * Makes a device for a hypervisor in this process, and opens its vhost-user socket. Everything runs
 * on the calling thread's event loop, except what native code does with eventfds.
 * @throws VvuError of scope `setup` for options that cannot be met: `BAD_OPTIONS`, `BAD_WINDOW`,
 * `BAD_MEMORY`, `BAD_UUID`, `ADDRESS_IN_USE` or the errno of the socket
 */
export function createVirtioVhostUserDevice(
  options: VirtioVhostUserOptions,
): VirtioVhostUserFunction {
  checkOptions(options);
  const cleanup = new Cleanup();
  try {
    return assemble(options, cleanup);
  } catch (error) {
    // The steps so far are synchronous in effect; what they reject with adds nothing to `error`.
    void cleanup.run().catch(() => undefined);
    throw error;
  }
}

function assemble(options: VirtioVhostUserOptions, cleanup: Cleanup): VirtioVhostUserFunction {
  const logger = options.logger ?? silentLogger;
  const maxVhostQueues = options.maxVhostQueues ?? DEFAULT_MAX_VHOST_QUEUES;
  const { layout = 'split' } = options;
  const plan = planLayout(layout, maxVhostQueues, options.window.size);
  const uuid = options.uuid === undefined ? randomUuid() : parseUuid(options.uuid);
  const failures = new Failures(logger);
  const share = options.rules?.shareMemory ?? false;
  const { memory, files } = openGuestMemory(options.memory, native, failures, cleanup, share);
  const window = new PortWindow(options.window, native, failures.report, systemClock);
  const interrupts = new FunctionInterrupts({
    host: new PortInterrupts(native, options.interrupts, failures.guard),
    vectors: plan.vectors,
    ownership: 'function',
  });
  const endpoint = createEndpoint(options, logger);
  const host = {
    doorbells: doorbellHost(plan, options.doorbells, failures.guard),
    kicks: interrupts,
    window,
    memoryFiles: files,
  };
  const device = new VhostUserDevice({ native, host, endpoint, uuid, maxVhostQueues, logger });
  cleanup.defer(() => device.close());
  endpoint.open();
  const id = options.pciId ?? defaultPciId(layout);
  const shared = { device, plan, memory, interrupts, id, logger };
  const pci = createFunction({ ...shared, window: window.block });
  const result = new VirtioVhostUserFunction({
    pci,
    window: { ...plan.window, size: window.size },
    uuid: formatUuid(uuid),
    failures,
    cleanup,
  });
  failures.onError = (error) => tell(() => result.emit('error', error));
  forward(device, result);
  return result;
}

function createEndpoint(
  { vhostUserMode: mode = 'server', vhostUserPath: path, ...options }: VirtioVhostUserOptions,
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
    rules: options.rules ?? {},
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

function forward({ events }: VhostUserDevice, to: VirtioVhostUserFunction): void {
  events.on('frontend-connected', () => tell(() => to.emit('frontend-connected')));
  events.on('frontend-disconnected', (code, detail) =>
    tell(() => to.emit('frontend-disconnected', code, detail)),
  );
  events.on('memory-table', (regions) => {
    const table = regions.map(({ region, placement }) => ({
      role: region.role,
      guestAddress: region.guestAddress,
      length: region.length,
      windowOffset: placement.offset,
      mapped: placement.kind === 'dynamic',
    }));
    tell(() => to.emit('memory-table', table));
  });
  events.on('needs-reset', (reason) => tell(() => to.emit('needs-reset', reason)));
}
