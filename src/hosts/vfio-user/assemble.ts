import { VhostUserDevice } from '../../device/device.js';
import { formatUuid, parseUuid, persistentUuid, randomUuid } from '../../device/identity.js';
import { silentLogger } from '../../log.js';
import type { Logger } from '../../log.js';
import type { Native, NativeFastRegions } from '../../native.js';
import { FunctionInterrupts } from '../../pci/index.js';
import { SocketEndpoint } from '../../tunnel/index.js';
import { DEFAULT_MAX_VHOST_QUEUES } from '../../device/constants.js';
import type { Cleanup } from '../cleanup.js';
import { createFunction, defaultPciId } from '../function.js';
import type { LayoutPlan } from '../layout.js';
import { planLayout, powerOfTwoAtLeast } from '../layout.js';
import { DmaMemory } from './dma.js';
import { VfioUserDoorbells } from './doorbells.js';
import { FunctionDevice } from './function-device.js';
import { VfioUserInterrupts } from './interrupts.js';
import type { VfioUserDeviceOptions } from './options.js';
import { openPresetFile } from './preset-file.js';
import { VfioUserWindow } from './window.js';

/** A device with everything around it except the vfio-user connection. */
export interface AssembledFunction {
  readonly device: VhostUserDevice;
  readonly plan: LayoutPlan;
  readonly uuid: string;
  readonly dma: DmaMemory;
  readonly fast: NativeFastRegions;
  readonly vfioDevice: FunctionDevice;
}

/** What the function tells whoever holds the vfio-user connection. */
export interface ConnectionHooks {
  /** The guest's memory file shrank: the connection is worth nothing any more. */
  guestMemoryLost(): void;
  /** The connection is over, and the function was reset. */
  clientClosed(reason: string, detail: string): void;
}

/** Builds the device from the inside out, and leaves in `cleanup` how to take it down. */
export function assembleFunction(
  options: VfioUserDeviceOptions,
  native: Native,
  hooks: ConnectionHooks,
  cleanup: Cleanup,
): AssembledFunction {
  const logger = options.logger ?? silentLogger;
  const { trappedSize, presetSize } = options.window;
  const maxVhostQueues = options.maxVhostQueues ?? DEFAULT_MAX_VHOST_QUEUES;
  const windowSize = powerOfTwoAtLeast(presetSize + trappedSize);
  const plan = planLayout(options.layout, maxVhostQueues, windowSize);
  const uuid = deviceUuid(options);

  const fast = native.createFastRegions();
  cleanup.defer(() => fast.close());
  const window = createWindow(options, plan, windowSize, native, fast, cleanup, logger);
  const { bar: region, ...doorbellPlace } = plan.doorbells;
  const doorbells = new VfioUserDoorbells(native, fast, { region, ...doorbellPlace });
  cleanup.defer(() => doorbells.revokeEventFds());
  const vectors = new VfioUserInterrupts(native);
  const interrupts = new FunctionInterrupts({
    host: vectors,
    vectors: plan.vectors,
    ownership: 'client',
  });
  const share = options.rules?.shareMemory ?? false;
  const dma = new DmaMemory(native, () => hooks.guestMemoryLost(), share);
  cleanup.defer(() => dma.clear());
  const host = { doorbells, kicks: interrupts, window, memoryFiles: dma.shared };
  const endpoint = createEndpoint(options, native, logger);
  const device = new VhostUserDevice({ native, host, endpoint, uuid, maxVhostQueues, logger });
  cleanup.defer(() => device.close());
  endpoint.open();

  const id = options.pciId ?? defaultPciId(options.layout);
  const shared = { device, plan, interrupts, id, logger };
  const pci = createFunction({ ...shared, memory: dma.memory, window: window.block });
  const vfioDevice = new FunctionDevice({
    pci,
    dma,
    interrupts: vectors,
    window,
    doorbells,
    windowRegion: plan.window.bar,
    doorbellRegion: plan.doorbells.bar,
    closed: (reason, detail) => hooks.clientClosed(reason, detail),
  });
  return { device, plan, uuid: formatUuid(uuid), dma, fast, vfioDevice };
}

function createWindow(
  options: VfioUserDeviceOptions,
  plan: LayoutPlan,
  size: number,
  native: Native,
  fast: NativeFastRegions,
  cleanup: Cleanup,
  logger: Logger,
): VfioUserWindow {
  const { presetPath: path, presetSize } = options.window;
  const place = { region: plan.window.bar, offset: plan.window.offset, size };
  if (path === undefined) return new VfioUserWindow(fast, place, undefined);
  const preset = openPresetFile(native, path, presetSize, () =>
    logger.error({ path }, 'window file shrank: the window shows zeros'),
  );
  cleanup.defer(() => {
    preset.memory.release();
    native.closeFd(preset.fd);
  });
  return new VfioUserWindow(fast, place, preset);
}

function createEndpoint(
  options: VfioUserDeviceOptions,
  native: Native,
  logger: Logger,
): SocketEndpoint {
  const { vhostUserMode: mode, vhostUserPath: path, socketMode, socketGid, rules = {} } = options;
  const log = logger.child({ socket: 'vhost-user' });
  const permissions = {
    ...(socketMode !== undefined && { mode: socketMode }),
    ...(socketGid !== undefined && { gid: socketGid }),
  };
  return new SocketEndpoint({ mode, path, native, log, permissions, rules });
}

function deviceUuid({ uuid, stateDirectory, name }: VfioUserDeviceOptions): Buffer {
  if (uuid !== undefined) return parseUuid(uuid);
  return stateDirectory === undefined ? randomUuid() : persistentUuid(stateDirectory, name);
}
