import { doorbellCount } from '../device/doorbells.js';
import { VvuError } from '../errors.js';
import type { BarDefinition, Placement } from '../pci/index.js';
import { NOTIFY_OFF_MULTIPLIER } from '../pci/index.js';

export const LAYOUTS = ['split', 'rfc', 'draft'] as const;

/**
 * Where the registers are. Capabilities locate everything in all of them, so drivers of 2019 and
 * later work with each; drivers of 2018 hard-code `rfc`. `draft` is that of draft 5 of the
 * specification, "Vhost-user Device Backend".
 */
export type Layout = (typeof LAYOUTS)[number];

export interface LayoutPlan {
  readonly bars: readonly BarDefinition[];
  readonly common: Placement;
  readonly isr: Placement;
  readonly deviceConfig: Placement;
  readonly notify: Placement;
  readonly msixTable: Placement;
  readonly msixPba: Placement;
  /** config, rxq, txq, and one vector per vring's kick. */
  readonly vectors: number;
  readonly doorbells: Placement & { readonly stride: number; readonly count: number };
  readonly notifications: Placement;
  readonly window: Placement;
  /**
   * As the draft has it: doorbells and kick vectors have queue indices behind those of the
   * virtqueues, and the window is a shared memory region of a `virtio_pci_cap64`.
   */
  readonly draft: boolean;
}

const PAGE = 4096;
const COMMON = 0;
const ISR = PAGE;
const DEVICE_CONFIG = 2 * PAGE;
const NOTIFY = 3 * PAGE;
/** Behind the virtio structures, in the layout whose BAR 2 has no room for it. */
const RFC_NOTIFICATIONS = 4 * PAGE;
const MSIX_ENTRY = 16;
const FIXED_VECTORS = 3;
const SPLIT_STRIDE = 4;
/** rxq and txq have the first registers of the notification structure. */
const DRAFT_DOORBELLS = NOTIFY + 2 * NOTIFY_OFF_MULTIPLIER;
/** The 2018 driver's doorbells are u16. */
const RFC_STRIDE = 2;
const WINDOW_MAX = 2 ** 46;

const VIRTIO_BAR = 0;
const MSIX_BAR = 1;
const DOORBELL_BAR = 2;
const WINDOW_BAR = 4;

export function powerOfTwoAtLeast(value: number): number {
  let power = 1;
  while (power < value) power *= 2;
  return power;
}

function pageAlign(value: number): number {
  return Math.ceil(value / PAGE) * PAGE;
}

function memory32(index: number, size: number): BarDefinition {
  return { index, size, kind: 'memory32', prefetchable: false };
}

/**
 * Computes all places for a number of vrings and a window of `windowSize` bytes (a power of two).
 * @throws VvuError of scope `setup` for a window that no guest could address
 */
export function planLayout(layout: Layout, maxVhostQueues: number, windowSize: number): LayoutPlan {
  if (
    windowSize < PAGE ||
    windowSize > WINDOW_MAX ||
    windowSize !== powerOfTwoAtLeast(windowSize)
  ) {
    throw new VvuError('BAD_WINDOW', 'setup', `window of ${windowSize} bytes: 4K to 64T, 2^n`);
  }
  const vectors = FIXED_VECTORS + maxVhostQueues;
  const pba = pageAlign(vectors * MSIX_ENTRY);
  const shared = {
    common: { bar: VIRTIO_BAR, offset: COMMON },
    isr: { bar: VIRTIO_BAR, offset: ISR },
    deviceConfig: { bar: VIRTIO_BAR, offset: DEVICE_CONFIG },
    notify: { bar: VIRTIO_BAR, offset: NOTIFY },
    msixTable: { bar: MSIX_BAR, offset: 0 },
    msixPba: { bar: MSIX_BAR, offset: pba },
    vectors,
  };
  const msixBar = memory32(MSIX_BAR, powerOfTwoAtLeast(pba + PAGE));
  const plan = { split: planSplit, rfc: planRfc, draft: planDraft }[layout];
  return { ...shared, ...plan(maxVhostQueues, windowSize, msixBar), draft: layout === 'draft' };
}

type OwnPlan = Pick<LayoutPlan, 'bars' | 'doorbells' | 'notifications' | 'window'>;

function windowBar(size: number): BarDefinition {
  return { index: WINDOW_BAR, size, kind: 'memory64', prefetchable: true };
}

/** BAR 2: doorbells and notifications. BAR 4: the window, from its first byte. */
function planSplit(maxVhostQueues: number, windowSize: number, msixBar: BarDefinition): OwnPlan {
  const count = doorbellCount(maxVhostQueues);
  const notifications = pageAlign(count * SPLIT_STRIDE);
  return {
    bars: [
      memory32(VIRTIO_BAR, 4 * PAGE),
      msixBar,
      memory32(DOORBELL_BAR, powerOfTwoAtLeast(notifications + PAGE)),
      windowBar(windowSize),
    ],
    doorbells: { bar: DOORBELL_BAR, offset: 0, stride: SPLIT_STRIDE, count },
    notifications: { bar: DOORBELL_BAR, offset: notifications },
    window: { bar: WINDOW_BAR, offset: 0 },
  };
}

/**
 * BAR 2: doorbells at 0 with a stride of 2, the window from the next page behind the RFC's
 * max_vhost_queues + 1 doorbells. The err doorbells, which the RFC lacks, get what is left of that
 * page: all but the last one of 1024 vrings fit.
 */
function planRfc(maxVhostQueues: number, windowSize: number, msixBar: BarDefinition): OwnPlan {
  const window = pageAlign(RFC_STRIDE * (maxVhostQueues + 1));
  const count = Math.min(doorbellCount(maxVhostQueues), window / RFC_STRIDE);
  return {
    bars: [
      memory32(VIRTIO_BAR, 8 * PAGE),
      msixBar,
      {
        index: DOORBELL_BAR,
        size: powerOfTwoAtLeast(window + windowSize),
        kind: 'memory64',
        prefetchable: true,
      },
    ],
    doorbells: { bar: DOORBELL_BAR, offset: 0, stride: RFC_STRIDE, count },
    notifications: { bar: VIRTIO_BAR, offset: RFC_NOTIFICATIONS },
    window: { bar: DOORBELL_BAR, offset: window },
  };
}

/**
 * BAR 0 has everything but MSI-X and the window, which is all of BAR 4. The doorbells are registers
 * of the notification structure, as those of rxq and txq before them.
 */
function planDraft(maxVhostQueues: number, windowSize: number, msixBar: BarDefinition): OwnPlan {
  const count = doorbellCount(maxVhostQueues);
  const notifications = pageAlign(DRAFT_DOORBELLS + count * NOTIFY_OFF_MULTIPLIER);
  return {
    bars: [
      memory32(VIRTIO_BAR, powerOfTwoAtLeast(notifications + PAGE)),
      msixBar,
      windowBar(windowSize),
    ],
    doorbells: {
      bar: VIRTIO_BAR,
      offset: DRAFT_DOORBELLS,
      stride: NOTIFY_OFF_MULTIPLIER,
      count,
    },
    notifications: { bar: VIRTIO_BAR, offset: notifications },
    window: { bar: WINDOW_BAR, offset: 0 },
  };
}
