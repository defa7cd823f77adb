import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
} from '../constants.js';
import { VfioUserError } from '../errors.js';
import { WireReader, WireWriter } from '../wire.js';
import { checkArgsz, checkFlags, checkLength, checkZero, type Codec } from './codec.js';

/** VFIO_USER_DEVICE_GET_IRQ_INFO, request. */
export interface IrqInfoRequest {
  readonly argsz: number;
  readonly index: number;
}

/** VFIO_USER_DEVICE_GET_IRQ_INFO, reply. */
export interface IrqInfo {
  /** VFIO_IRQ_INFO_*. */
  readonly flags: number;
  readonly index: number;
  readonly count: number;
}

/** VFIO_USER_DEVICE_SET_IRQS, request. */
export interface SetIrqsRequest {
  /** One VFIO_IRQ_SET_DATA_* and one VFIO_IRQ_SET_ACTION_*. */
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** With DATA_BOOL: one byte per interrupt, not zero where the action applies. */
  readonly bools: Uint8Array | undefined;
}

export const IRQ_INFO_SIZE = 16;
const SET_SIZE = 20;

export const irqInfoRequestCodec: Codec<IrqInfoRequest> = {
  decode(payload) {
    const reader = new WireReader(payload, IRQ_INFO_SIZE, 'IRQ info');
    const argsz = reader.u32();
    checkArgsz(argsz, IRQ_INFO_SIZE);
    checkZero(reader.u32(), 'flags');
    const index = reader.u32();
    checkZero(reader.u32(), 'count');
    return { argsz, index };
  },
  encode: ({ argsz, index }) => new WireWriter(IRQ_INFO_SIZE).u32(argsz).u32(0).u32(index).bytes,
};

export const irqInfoCodec: Codec<IrqInfo> = {
  decode(payload) {
    const reader = new WireReader(payload, IRQ_INFO_SIZE, 'IRQ info');
    checkArgsz(reader.u32(), IRQ_INFO_SIZE);
    return { flags: reader.u32(), index: reader.u32(), count: reader.u32() };
  },
  encode({ flags, index, count }) {
    const writer = new WireWriter(IRQ_INFO_SIZE).u32(IRQ_INFO_SIZE);
    return writer.u32(flags).u32(index).u32(count).bytes;
  },
};

const DATA_TYPES: readonly number[] = [
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
];
const ACTIONS: readonly number[] = [
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
];

export const setIrqsCodec: Codec<SetIrqsRequest> = {
  decode(payload) {
    const reader = new WireReader(payload, SET_SIZE, 'IRQ set');
    // argsz is the size of the request here, not a bound on the reply.
    checkLength(payload, reader.u32(), 'IRQ set');
    const flags = reader.u32();
    const index = reader.u32();
    const start = reader.u32();
    const count = reader.u32();
    checkIrqFlags(flags, start, count);
    const isBool = (flags & VFIO_IRQ_SET_DATA_TYPE_MASK) === VFIO_IRQ_SET_DATA_BOOL;
    checkLength(payload, SET_SIZE + (isBool ? count : 0), 'IRQ set');
    return { flags, index, start, count, bools: isBool ? reader.bytes(count) : undefined };
  },
  encode({ flags, index, start, count, bools = new Uint8Array(0) }) {
    const size = SET_SIZE + bools.length;
    const writer = new WireWriter(size).u32(size).u32(flags).u32(index);
    return writer.u32(start).u32(count).put(bools).bytes;
  },
};

/** The flags are mutually exclusive in both sets; a count of 0 only disables an index. */
function checkIrqFlags(flags: number, start: number, count: number): void {
  checkFlags(flags, VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK, 'IRQ set flags');
  const data = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
  const action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
  if (!DATA_TYPES.includes(data) || !ACTIONS.includes(action)) {
    throw new VfioUserError('EINVAL', `IRQ set flags 0x${flags.toString(16)} are ambiguous`);
  }
  if (start + count > 0xffff_ffff) {
    throw new VfioUserError('EINVAL', `IRQ set of ${start} + ${count} overflows`);
  }
  const disables = data === VFIO_IRQ_SET_DATA_NONE && action === VFIO_IRQ_SET_ACTION_TRIGGER;
  if (count === 0 && !(disables && start === 0)) {
    throw new VfioUserError('EINVAL', 'IRQ set with a count of 0 that disables nothing');
  }
}
