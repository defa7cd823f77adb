import type { VhostUserDevice } from '../device/device.js';
import { DoorbellRegisters } from '../device/doorbells.js';
import { VringIndices } from '../device/vring-indices.js';
import type { Logger } from '../log.js';
import type { FunctionInterrupts, PciFunction } from '../pci/index.js';
import { composeVirtioPciFunction } from '../pci/index.js';
import {
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  VIRTIO_PCI_CAP_DOORBELL_CFG,
  VIRTIO_PCI_CAP_NOTIFICATION_CFG,
  VIRTIO_PCI_CAP_SHARED_MEMORY_CFG,
  VIRTIO_PCI_MODERN_DEVICE_ID_BASE,
} from '../virtio/constants.js';
import type { GuestMemory, RegisterBlock } from '../virtio/ports.js';
import type { Layout, LayoutPlan } from './layout.js';

export interface PciId {
  readonly vendor: number;
  readonly device: number;
}

/** Virtio device ids: the RFC's, which Linux has given to virtio-mem, and the drafts', to SCMI. */
const RFC_VIRTIO_ID = 24;
const DRAFT_VIRTIO_ID = 32;

/** The id that a layout has unless the operator says otherwise. */
export function defaultPciId(layout: Layout): PciId {
  const virtioId = layout === 'draft' ? DRAFT_VIRTIO_ID : RFC_VIRTIO_ID;
  return {
    vendor: PCI_VENDOR_ID_REDHAT_QUMRANET,
    device: VIRTIO_PCI_MODERN_DEVICE_ID_BASE + virtioId,
  };
}

export interface FunctionSetup {
  readonly device: VhostUserDevice;
  readonly plan: LayoutPlan;
  readonly memory: GuestMemory;
  readonly interrupts: FunctionInterrupts;
  /** The window for accesses that arrive one by one. */
  readonly window: RegisterBlock;
  readonly id: PciId;
  readonly logger: Logger;
}

/** Dresses the device in a PCI function whose registers lie where the plan says. */
export function createFunction(setup: FunctionSetup): PciFunction {
  const { device, plan, memory, interrupts, window, id, logger } = setup;
  const { doorbells, notifications } = plan;
  const doorbellBlock = new DoorbellRegisters(
    device.frontend.doorbells,
    doorbells.count,
    doorbells.stride,
  );
  const notificationBlock = device.frontend.notificationRegisters;
  const { function: pci } = composeVirtioPciFunction({
    device,
    memory,
    interrupts,
    ids: { vendorId: id.vendor, deviceId: id.device },
    bars: plan.bars,
    structures: {
      common: plan.common,
      notify: plan.draft
        ? { ...plan.notify, length: doorbells.offset + doorbellBlock.size - plan.notify.offset }
        : plan.notify,
      isr: plan.isr,
      device: plan.deviceConfig,
    },
    msix: { table: plan.msixTable, pba: plan.msixPba },
    blocks: [
      { ...doorbells, block: doorbellBlock },
      { ...notifications, block: notificationBlock },
      { ...plan.window, block: window },
    ],
    capabilities: [
      {
        ...capability(VIRTIO_PCI_CAP_DOORBELL_CFG, doorbells, doorbellBlock),
        multiplier: doorbells.stride,
      },
      capability(VIRTIO_PCI_CAP_NOTIFICATION_CFG, notifications, notificationBlock),
      {
        ...capability(VIRTIO_PCI_CAP_SHARED_MEMORY_CFG, plan.window, window),
        wide: plan.draft,
      },
    ],
    ...(plan.draft && { auxiliary: new VringIndices(device.frontend.kicks) }),
    logger,
  });
  return pci;
}

function capability(
  cfgType: number,
  at: { readonly bar: number; readonly offset: number },
  block: RegisterBlock,
) {
  return { cfgType, bar: at.bar, offset: at.offset, length: block.size };
}
