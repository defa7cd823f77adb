/** Brings a virtio-pci device up (virtio 1.3 §3.1.1) with the driver's two queues. */
import { VvuError } from '../errors.js';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_MSI_NO_VECTOR,
} from '../virtio/constants.js';
import type { QueueConfig } from '../virtio/ports.js';
import { VIRTIO_F_EVENT_IDX, isQueueSize } from '../virtio/ring-constants.js';
import type { DeviceStructures } from './capabilities.js';
import {
  COMMON_CONFIG_MSIX_VECTOR,
  COMMON_DEVICE_STATUS,
  COMMON_NUM_QUEUES,
  COMMON_QUEUE_DESC,
  COMMON_QUEUE_DEVICE,
  COMMON_QUEUE_DRIVER,
  COMMON_QUEUE_ENABLE,
  COMMON_QUEUE_MSIX_VECTOR,
  COMMON_QUEUE_SIZE,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  RXQ,
  TXQ,
} from './constants.js';
import { ReceiveQueue, TransmitQueue } from './message-queue.js';
import type { PciAccess } from './pci-access.js';
import type { CommonConfig } from './registers.js';

/** What the driver can use of the device's features. */
const DRIVER_FEATURES = VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM | VIRTIO_F_EVENT_IDX;
/** Messages in flight; a vhost-user conversation needs few. */
const QUEUE_SIZE = 64;
/** Status reads to wait for the end of a reset; each takes microseconds at least. */
const RESET_ATTEMPTS = 10_000;

export interface RunningQueues {
  readonly features: bigint;
  readonly rxq: ReceiveQueue;
  readonly txq: TransmitQueue;
}

/**
 * Memory decoding and bus mastering; no INTx, which nobody here would acknowledge: after the first
 * one QEMU traps every access to a passed-through function, the window's too, until its end.
 */
export function enableFunction(access: PciAccess): void {
  const command = access.configRead(PCI_COMMAND, 2);
  const wanted = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;
  command.writeUInt16LE(command.readUInt16LE() | wanted);
  access.configWrite(PCI_COMMAND, command);
}

/** Resets the device and waits until it says so (§4.1.4.3.2). */
export function resetDevice(common: CommonConfig): void {
  common.write8(COMMON_DEVICE_STATUS, 0);
  for (let i = 0; i < RESET_ATTEMPTS; i++) {
    if (common.status === 0) return;
  }
  throw new VvuError('RESET_TIMEOUT', 'setup', 'the device does not finish its reset');
}

/**
 * From reset to DRIVER_OK. `vector` is the MSI-X vector for everything, or undefined to poll.
 * @throws VvuError of scope `setup` when the device is none that this driver can use
 */
export function initializeDevice(
  access: PciAccess,
  structures: DeviceStructures,
  common: CommonConfig,
  vector: number | undefined,
): RunningQueues {
  resetDevice(common);
  common.addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  common.addStatus(VIRTIO_CONFIG_S_DRIVER);
  const features = common.deviceFeatures() & DRIVER_FEATURES;
  if ((features & VIRTIO_F_VERSION_1) === 0n) {
    throw new VvuError('LEGACY_DEVICE', 'setup', 'the device does not offer VIRTIO_F_VERSION_1');
  }
  common.setDriverFeatures(features);
  common.addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
  if ((common.status & VIRTIO_CONFIG_S_FEATURES_OK) === 0) {
    throw new VvuError('FEATURES_REFUSED', 'setup', 'the device refused the features');
  }
  if (common.read16(COMMON_NUM_QUEUES) <= TXQ) {
    throw new VvuError('NO_QUEUES', 'setup', 'the device has no rxq and txq');
  }
  if (vector !== undefined) assignVector(common, COMMON_CONFIG_MSIX_VECTOR, vector);
  const setup = { access, structures, common, features, vector };
  const rxq = setUpQueue(setup, RXQ, ReceiveQueue);
  let txq;
  try {
    txq = setUpQueue(setup, TXQ, TransmitQueue);
  } catch (error) {
    resetDevice(common);
    rxq.free();
    throw error;
  }
  common.addStatus(VIRTIO_CONFIG_S_DRIVER_OK);
  rxq.fill();
  return { features, rxq, txq };
}

interface QueueSetup {
  readonly access: PciAccess;
  readonly structures: DeviceStructures;
  readonly common: CommonConfig;
  readonly features: bigint;
  readonly vector: number | undefined;
}

type QueueClass<Q> = new (
  access: PciAccess,
  index: number,
  size: number,
  features: bigint,
  notify: () => void,
) => Q;

function setUpQueue<Q extends { readonly config: QueueConfig; free(): void }>(
  setup: QueueSetup,
  index: number,
  Queue: QueueClass<Q>,
): Q {
  const { access, structures, common, features, vector } = setup;
  const { notify } = structures;
  const notifyAt = common.notifyRegister(notify, index);
  const max = common.read16(COMMON_QUEUE_SIZE);
  if (!isQueueSize(max)) {
    throw new VvuError('QUEUE_SIZE', 'setup', `queue ${index} has a size of ${max}`);
  }
  const size = Math.min(max, QUEUE_SIZE);
  const value = Buffer.alloc(2);
  value.writeUInt16LE(index);
  const queue = new Queue(access, index, size, features, () =>
    access.barWrite(notify.bar, notifyAt, value),
  );
  try {
    common.write16(COMMON_QUEUE_SIZE, size);
    if (vector !== undefined) assignVector(common, COMMON_QUEUE_MSIX_VECTOR, vector);
    common.write64(COMMON_QUEUE_DESC, queue.config.descriptorArea);
    common.write64(COMMON_QUEUE_DRIVER, queue.config.driverArea);
    common.write64(COMMON_QUEUE_DEVICE, queue.config.deviceArea);
    common.write16(COMMON_QUEUE_ENABLE, 1);
  } catch (error) {
    queue.free();
    throw error;
  }
  return queue;
}

/** A device that has no resources for a vector reads back NO_VECTOR (§4.1.5.1.2). */
function assignVector(common: CommonConfig, register: number, vector: number): void {
  common.write16(register, vector);
  if (common.read16(register) === VIRTIO_MSI_NO_VECTOR) {
    throw new VvuError('NO_VECTOR', 'setup', `the device refused MSI-X vector ${vector}`);
  }
}
