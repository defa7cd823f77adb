import type { PeerFeatures } from './connection.js';
import { VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET } from './constants.js';
import type { VfioUserDevice } from './device.js';
import { Dispatcher } from './dispatcher.js';
import type { DmaHandler } from './dma-handler.js';
import { VfioUserError } from './errors.js';
import type { IrqTable } from './irq-table.js';
import { Messages } from './messages.js';
import type { RegionHandler } from './region-handler.js';

/** What the commands of a negotiated connection work on. */
export interface ServerParts {
  readonly device: VfioUserDevice;
  readonly dma: DmaHandler;
  readonly regions: RegionHandler;
  readonly irqs: IrqTable;
  /** Those in force now. */
  readonly features: () => PeerFeatures;
}

const DONE = { reply: undefined };

/** A dispatcher of all client commands. */
export function serverDispatcher(parts: ServerParts): Dispatcher {
  const dispatcher = new Dispatcher('client-to-server');
  registerConfiguration(dispatcher, parts);
  registerAccesses(dispatcher, parts);
  registerUnsupported(dispatcher);
  return dispatcher;
}

function registerConfiguration(dispatcher: Dispatcher, parts: ServerParts): void {
  const { device, dma, regions, irqs, features } = parts;
  dispatcher.on(Messages.VERSION, () => {
    throw new VfioUserError('EINVAL', 'the version was negotiated already');
  });
  dispatcher.on(Messages.DMA_MAP, (request, fds) => {
    dma.map(request, fds, features().maxDmaMaps);
    return DONE;
  });
  dispatcher.on(Messages.DMA_UNMAP, (request) => {
    dma.unmap(request);
    return { reply: request };
  });
  dispatcher.on(Messages.DEVICE_GET_INFO, () => ({
    reply: {
      flags: VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI,
      numRegions: device.regions.length,
      numIrqs: device.irqs.length,
    },
  }));
  dispatcher.on(Messages.DEVICE_GET_REGION_INFO, (request) =>
    regions.info(request, features().maxMsgFds),
  );
  dispatcher.on(Messages.DEVICE_GET_REGION_IO_FDS, (request) =>
    regions.ioFds(request, features().maxMsgFds),
  );
  dispatcher.on(Messages.DEVICE_GET_IRQ_INFO, ({ index }) => {
    const info = device.irqs[index];
    if (info === undefined) throw new VfioUserError('EINVAL', `no IRQ index ${index}`);
    return { reply: { flags: info.flags, index, count: info.count } };
  });
  dispatcher.on(Messages.DEVICE_SET_IRQS, (request, fds) => {
    irqs.set(request, fds);
    return DONE;
  });
}

function registerAccesses(dispatcher: Dispatcher, parts: ServerParts): void {
  const { device, regions, features } = parts;
  dispatcher.on(Messages.REGION_READ, (request) =>
    regions.read(request, features().maxDataXferSize),
  );
  dispatcher.on(Messages.REGION_WRITE, (request) =>
    regions.write(request, features().maxDataXferSize),
  );
  dispatcher.on(Messages.REGION_WRITE_MULTI, (request) => {
    if (!features().writeMultiple) {
      throw new VfioUserError('ENOTSUP', 'write_multiple was not negotiated');
    }
    return regions.writeMulti(request, features().maxDataXferSize);
  });
  dispatcher.on(Messages.DEVICE_RESET, () => {
    device.reset();
    return DONE;
  });
}

/** Well-formed requests for what no device here has: "not supported", apart from "malformed". */
function registerUnsupported(dispatcher: Dispatcher): void {
  const refuse = (): never => {
    throw new VfioUserError('ENOTSUP', 'no device feature and no migration is supported');
  };
  dispatcher.on(Messages.DEVICE_FEATURE, refuse);
  dispatcher.on(Messages.MIG_DATA_READ, refuse);
  dispatcher.on(Messages.MIG_DATA_WRITE, refuse);
}
