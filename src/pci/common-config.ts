/**
 * `struct virtio_pci_common_cfg` as a field table (virtio 1.3 §4.1.4.3).
 */
import { VIRTIO_MSI_NO_VECTOR } from '../virtio/constants.js';
import type { AuxiliaryIndices } from '../virtio/ports.js';
import type { QueueArea, QueueState } from './queue-state.js';
import { RegisterFile, type Field } from './registers.js';

/** Bytes of the structure, with the fields of the administration virtqueue. */
export const COMMON_CONFIG_SIZE = 64;

/** What the table shows and changes. */
export interface CommonConfigModel {
  /** 32 of the feature bits that are offered: word 0 is bits 0-31. */
  deviceFeatures(word: number): number;
  /** The same of those that the driver has written. */
  driverFeatures(word: number): number;
  writeDriverFeatures(word: number, bits: number): void;
  configVector(): number;
  writeConfigVector(vector: number): void;
  readonly queueCount: number;
  status(): number;
  writeStatus(status: number): void;
  configGeneration(): number;
  queue(index: number): QueueState | undefined;
  writeQueueSize(queue: QueueState, size: number): void;
  writeQueueVector(queue: QueueState, vector: number): void;
  enableQueue(queue: QueueState): void;
  resetQueue(queue: QueueState): void;
  /** What indices behind those of the queues mean. */
  readonly auxiliary: AuxiliaryIndices | undefined;
}

/** Compiles the table for one transport. The three selectors are its only storage. */
export function commonConfig(model: CommonConfigModel): RegisterFile {
  const registers: RegisterFile = new RegisterFile(
    'virtio_pci_common_cfg',
    [
      ...deviceFields(model, (name) => registers.get(name)),
      ...queueFields(model, () => registers.get('queue_select')),
    ],
    COMMON_CONFIG_SIZE,
  );
  return registers;
}

/** "About the whole device." */
function deviceFields(model: CommonConfigModel, selected: (name: string) => number): Field[] {
  return [
    { name: 'device_feature_select', width: 4, writable: 0xffff_ffff },
    {
      name: 'device_feature',
      width: 4,
      get: () => model.deviceFeatures(selected('device_feature_select')),
    },
    { name: 'driver_feature_select', width: 4, writable: 0xffff_ffff },
    {
      name: 'driver_feature',
      width: 4,
      writable: 0xffff_ffff,
      get: () => model.driverFeatures(selected('driver_feature_select')),
      write: (bits) => model.writeDriverFeatures(selected('driver_feature_select'), bits),
    },
    {
      name: 'config_msix_vector',
      width: 2,
      writable: 0xffff,
      get: () => model.configVector(),
      write: (vector) => model.writeConfigVector(vector),
    },
    { name: 'num_queues', width: 2, get: () => model.queueCount },
    {
      name: 'device_status',
      width: 1,
      writable: 0xff,
      get: () => model.status(),
      write: (status) => model.writeStatus(status),
    },
    { name: 'config_generation', width: 1, get: () => model.configGeneration() },
  ];
}

/** "About a specific virtqueue": a selected queue that does not exist has size 0. */
function queueFields(model: CommonConfigModel, select: () => number): Field[] {
  const queue = (): QueueState | undefined => model.queue(select());
  const write = (effect: (queue: QueueState, value: number) => void) => (value: number) => {
    const selected = queue();
    if (selected) effect(selected, value);
  };
  return [
    { name: 'queue_select', width: 2, writable: 0xffff },
    {
      name: 'queue_size',
      width: 2,
      writable: 0xffff,
      get: () => queue()?.size ?? 0,
      write: write((selected, size) => model.writeQueueSize(selected, size)),
    },
    {
      name: 'queue_msix_vector',
      width: 2,
      writable: 0xffff,
      get: () => queue()?.vector ?? model.auxiliary?.vector(select()) ?? VIRTIO_MSI_NO_VECTOR,
      write: (vector) => {
        const selected = queue();
        if (selected) model.writeQueueVector(selected, vector);
        else model.auxiliary?.setVector(select(), vector);
      },
    },
    {
      name: 'queue_enable',
      width: 2,
      writable: 0xffff,
      get: () => Number(queue()?.enabled ?? false),
      // "The driver MUST NOT write a 0 to queue_enable"; DPDK does after a reset, when it is 0.
      write: write((selected, value) => {
        if (value === 1) model.enableQueue(selected);
      }),
    },
    {
      name: 'queue_notify_off',
      width: 2,
      get: () => queue()?.index ?? model.auxiliary?.notifyOff(select()) ?? 0,
    },
    ...addressFields('queue_desc', queue),
    ...addressFields('queue_driver', queue),
    ...addressFields('queue_device', queue),
    { name: 'queue_notif_config_data', width: 2 },
    {
      name: 'queue_reset',
      width: 2,
      // 1 is read only "while the queue reset is ongoing": here it ends before the write does.
      strobe: 0xffff,
      write: write((selected, value) => {
        if (value === 1) model.resetQueue(selected);
      }),
    },
    { name: 'admin_queue_index', width: 2 },
    { name: 'admin_queue_num', width: 2 },
  ];
}

/** A le64 as two halves, the way drivers write it. The addresses of an enabled queue are fixed. */
function addressFields(area: QueueArea, queue: () => QueueState | undefined): Field[] {
  const whenDisabled = (store: (queue: QueueState, value: number) => void) => (value: number) => {
    const selected = queue();
    if (selected && !selected.enabled) store(selected, value);
  };
  return [
    {
      name: `${area}_lo`,
      width: 4,
      writable: 0xffff_ffff,
      get: () => queue()?.low(area) ?? 0,
      write: whenDisabled((selected, value) => selected.setLow(area, value)),
    },
    {
      name: `${area}_hi`,
      width: 4,
      writable: 0xffff_ffff,
      get: () => queue()?.high(area) ?? 0,
      write: whenDisabled((selected, value) => selected.setHigh(area, value)),
    },
  ];
}
