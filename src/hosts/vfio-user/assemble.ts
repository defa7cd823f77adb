import { VhostUserDevice } from '../../device/device.js';
import { formatUuid, parseUuid, persistentUuid, randomUuid } from '../../device/identity.js';
import { silentLogger } from '../../log.js';
import type { Logger } from '../../log.js';
import type { Native, NativeFastRegions } from '../../native.js';
import { FunctionInterrupts } from '../../pci/index.js';
import { SocketEndpoint } from '../../tunnel/index.js';
import { DEFAULT_MAX_VHOST_QUEUES } from '../../device/constants.js';
import type { Cleanup } from '../cleanup.js';
import { DEFAULT_PCI_ID, createFunction } from '../function.js';
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
  /** Set by whoever holds the connection: ends it. */
  onGuestMemoryLost: (() => void) | undefined;
  /** Set likewise: the connection is over and the function was reset. */
  onClientClosed: ((reason: string, detail: string) => void) | undefined;
}

/** Builds the device from the inside out, and leaves in `cleanup` how to take it down. */
export function assembleFunction(
  options: VfioUserDeviceOptions,
  native: Native,
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
  const host = new VfioUserInterrupts(native);
  const interrupts = new FunctionInterrupts({ host, vectors: plan.vectors, ownership: 'client' });
  const endpoint = createEndpoint(options, native, logger);
  const device = new VhostUserDevice({
    native,
    host: { doorbells, kicks: interrupts, window },
    endpoint,
    uuid,
    maxVhostQueues,
    logger,
  });
  cleanup.defer(() => device.close());
  endpoint.open();

  const dma = new DmaMemory(native, () => assembled.onGuestMemoryLost?.());
  cleanup.defer(() => dma.clear());
  const id = options.pciId ?? DEFAULT_PCI_ID;
  const memory = dma.memory;
  const pci = createFunction({
    device,
    plan,
    memory,
    interrupts,
    window: window.block,
    id,
    logger,
  });
  const vfioDevice = new FunctionDevice({
    pci,
    dma,
    interrupts: host,
    window,
    doorbells,
    windowRegion: plan.window.bar,
    doorbellRegion: plan.doorbells.bar,
    closed: (reason, detail) => assembled.onClientClosed?.(reason, detail),
  });
  const assembled: AssembledFunction = {
    device,
    plan,
    uuid: formatUuid(uuid),
    dma,
    fast,
    vfioDevice,
    onGuestMemoryLost: undefined,
    onClientClosed: undefined,
  };
  return assembled;
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
  const { vhostUserMode: mode, vhostUserPath: path, socketMode, socketGid } = options;
  const log = logger.child({ socket: 'vhost-user' });
  const permissions = {
    ...(socketMode !== undefined && { mode: socketMode }),
    ...(socketGid !== undefined && { gid: socketGid }),
  };
  return new SocketEndpoint({ mode, path, native, log, permissions });
}

function deviceUuid({ uuid, stateDirectory, name }: VfioUserDeviceOptions): Buffer {
  if (uuid !== undefined) return parseUuid(uuid);
  return stateDirectory === undefined ? randomUuid() : persistentUuid(stateDirectory, name);
}
