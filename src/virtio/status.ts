/**
 * The device status field: which bits a driver may set, and after which others.
 */
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER as DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED as FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
} from './constants.js';

/** One bit that a driver may set. */
export interface StatusTransition {
  readonly name: string;
  readonly bit: number;
  /** Bits that must be set before. */
  readonly requires: number;
  /** Bits of which none may be set. */
  readonly forbids: number;
  /** Where virtio 1.3 says so. */
  readonly clause: string;
}

/**
 * In the order of §3.1.1, which is also the order in which a write of several new bits at once is
 * taken apart. Writing 0 (reset) is always legal and not in the list.
 */
export const STATUS_TRANSITIONS: readonly StatusTransition[] = [
  {
    name: 'ACKNOWLEDGE',
    bit: ACKNOWLEDGE,
    requires: 0,
    forbids: FAILED,
    clause: '§3.1.1 step 2',
  },
  {
    name: 'DRIVER',
    bit: DRIVER,
    requires: ACKNOWLEDGE,
    forbids: FAILED,
    clause: '§3.1.1 step 3',
  },
  {
    name: 'FEATURES_OK',
    bit: FEATURES_OK,
    requires: ACKNOWLEDGE | DRIVER,
    // A device that needs a reset can only be reset, §2.1.2.
    forbids: FAILED | NEEDS_RESET | DRIVER_OK,
    clause: '§3.1.1 step 5',
  },
  {
    name: 'DRIVER_OK',
    bit: DRIVER_OK,
    // Without FEATURES_OK the device is unusable, §3.1.1 step 6.
    requires: ACKNOWLEDGE | DRIVER | FEATURES_OK,
    forbids: FAILED | NEEDS_RESET,
    clause: '§3.1.1 step 8',
  },
  {
    // "the driver SHOULD set the FAILED status bit": at any step, also of a device in trouble.
    name: 'FAILED',
    bit: FAILED,
    requires: 0,
    forbids: 0,
    clause: '§3.1.1, last paragraph',
  },
];

const KNOWN = STATUS_TRANSITIONS.reduce((bits, { bit }) => bits | bit, NEEDS_RESET);

/** What a write of the status field (other than 0) leads to. */
export interface StatusWrite {
  /** The status to store. */
  readonly status: number;
  /** Bits that this write has set: its edges. */
  readonly edges: number;
  /** One line per part of the write that was not taken. */
  readonly refused: readonly string[];
}

/**
 * Works out the effect of a driver's write, without any side effect but the question
 * `featuresOk`: whether the device takes the driver's features. The question is asked at most once,
 * and only when FEATURES_OK may legally be set.
 *
 * NEEDS_RESET is the device's: a driver neither sets nor clears it. A write that clears another bit
 * is not taken at all (§2.1.1: "the driver MUST NOT clear a device status bit").
 */
export function writeStatus(
  current: number,
  written: number,
  featuresOk: () => boolean,
): StatusWrite {
  const cleared = current & ~written & ~NEEDS_RESET;
  if (cleared !== 0) {
    return { status: current, edges: 0, refused: [`${hex(written)} would clear ${hex(cleared)}`] };
  }
  const refused: string[] = [];
  if ((written & ~KNOWN) !== 0) refused.push(`unknown bits ${hex(written & ~KNOWN)}`);
  if ((written & ~current & NEEDS_RESET) !== 0) refused.push('NEEDS_RESET is set by the device');
  let status = current;
  for (const { name, bit, requires, forbids, clause } of STATUS_TRANSITIONS) {
    if ((written & bit) === 0 || (current & bit) !== 0) continue;
    if ((status & requires) !== requires || (status & forbids) !== 0) {
      refused.push(`${name} at status ${hex(status)} (${clause})`);
    } else if (bit === FEATURES_OK && !featuresOk()) {
      refused.push('FEATURES_OK: these features are not accepted (§2.2.2)');
    } else {
      status |= bit;
    }
  }
  return { status, edges: status & ~current, refused };
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
