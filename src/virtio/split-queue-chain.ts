/**
 * Descriptor chains of a split virtqueue as the device sees them (virtio 1.3 §2.7.5): walked once,
 * copied once, and trusted for nothing that was not checked on the copy.
 */
import { VvuError } from '../errors.js';
import type { GuestMemory, Iova } from './ports.js';
import {
  DESCRIPTOR_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from './ring-constants.js';

/** A contiguous piece of a buffer. */
export interface Segment {
  readonly iova: Iova;
  /** Bytes, at least 1. */
  readonly length: number;
}

/** One buffer that the driver made available. */
export interface Chain {
  /** Index of the head descriptor, which identifies the buffer in the used ring. */
  readonly head: number;
  /** Device-readable part, in order. */
  readonly readable: readonly Segment[];
  /** Device-writable part, in order. */
  readonly writable: readonly Segment[];
  /** Bytes in all readable segments. */
  readonly readableLength: number;
  /** Bytes in all writable segments. */
  readonly writableLength: number;
}

/** §2.7.5.3.1: a chain must not be longer than 2^32 bytes in total. */
const MAX_CHAIN_BYTES = 2 ** 32;
/**
 * A chain may be no longer than the queue (§2.7.5.3.1), but Linux builds longer ones in indirect
 * tables, and devices that they meet accept 1024 descriptors.
 */
const MAX_INDIRECT_DESCRIPTORS = 1024;
/** Indirect tables of up to this many descriptors are fetched with one access. */
const PREFETCH_DESCRIPTORS = 64;
/** Descriptors per access to the queue's own table. */
const BLOCK_DESCRIPTORS = 8;
/** Above this value of the upper half, an address exceeds 2^53 - 1. */
const MAX_HIGH_WORD = 0x1f_ffff;

function invalid(code: string, message: string): VvuError {
  return new VvuError(code, 'device', message);
}

class ChainBuilder implements Chain {
  readonly readable: Segment[] = [];
  readonly writable: Segment[] = [];
  readableLength = 0;
  writableLength = 0;
  constructor(readonly head: number) {}
}

/**
 * Walks chains of one queue. Holds the scratch memory, so that a walk allocates only its result.
 *
 * Descriptors are fetched in blocks, since neighbours in the table are often neighbours in the
 * ring and each access has a price. A block is a copy of what was available when it was fetched:
 * `refresh` has to be called before chains that became available later are read.
 */
export class ChainReader {
  private readonly block = Buffer.alloc(BLOCK_DESCRIPTORS * DESCRIPTOR_BYTES);
  private blockStart = 0;
  private blockCount = 0;
  /** An indirect table, or one descriptor of it. */
  private readonly scratch = Buffer.alloc(PREFETCH_DESCRIPTORS * DESCRIPTOR_BYTES);
  private readonly one = this.scratch.subarray(0, DESCRIPTOR_BYTES);

  constructor(
    private readonly memory: GuestMemory,
    private readonly table: Iova,
    private readonly size: number,
    private readonly indirectAllowed: boolean,
  ) {}

  /** More chains have become available. */
  refresh(): void {
    this.blockCount = 0;
  }

  /** @throws VvuError of scope `device`, with one code per broken rule */
  read(head: number): Chain {
    const { block } = this;
    const chain = new ChainBuilder(head);
    let index = head;
    for (let count = 1; ; count++) {
      if (index >= this.size) {
        throw invalid('DESCRIPTOR_INDEX', `descriptor ${index} of ${this.size}`);
      }
      if (count > this.size) throw invalid('DESCRIPTOR_LOOP', `chain of ${head} has a loop`);
      const at = this.fetch(index);
      const flags = block.readUInt16LE(at + 12);
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        this.readIndirect(chain, flags, at);
        return chain;
      }
      append(chain, block, at, flags);
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return chain;
      index = block.readUInt16LE(at + 14);
    }
  }

  /** Makes sure that a descriptor is in the block. @returns its byte offset there */
  private fetch(index: number): number {
    const place = index - this.blockStart;
    if (place >= 0 && place < this.blockCount) return place * DESCRIPTOR_BYTES;
    const count = Math.min(BLOCK_DESCRIPTORS, this.size - index);
    const target =
      count === BLOCK_DESCRIPTORS ? this.block : this.block.subarray(0, count * DESCRIPTOR_BYTES);
    this.blockCount = 0;
    this.memory.readInto(this.table + index * DESCRIPTOR_BYTES, target);
    this.blockStart = index;
    this.blockCount = count;
    return 0;
  }

  /** The descriptor at `tableAt` of the block names an indirect table (§2.7.5.3). */
  private readIndirect(chain: ChainBuilder, flags: number, tableAt: number): void {
    if (!this.indirectAllowed) {
      throw invalid('INDIRECT_NOT_NEGOTIATED', `chain of ${chain.head} uses an indirect table`);
    }
    if ((flags & VIRTQ_DESC_F_NEXT) !== 0) {
      throw invalid('INDIRECT_WITH_NEXT', `chain of ${chain.head} goes on after an indirect table`);
    }
    const bytes = this.block.readUInt32LE(tableAt + 8);
    if (bytes === 0 || bytes % DESCRIPTOR_BYTES !== 0) {
      throw invalid('INDIRECT_LENGTH', `indirect table of ${bytes} bytes`);
    }
    const table = addressOf(this.block, tableAt, bytes);
    const entries = bytes / DESCRIPTOR_BYTES;
    const prefetched = entries <= PREFETCH_DESCRIPTORS;
    if (prefetched) this.memory.readInto(table, this.scratch.subarray(0, bytes));
    const limit = Math.min(entries, Math.max(this.size, MAX_INDIRECT_DESCRIPTORS));
    let index = 0;
    for (let count = 1; ; count++) {
      if (index >= entries) {
        throw invalid('DESCRIPTOR_INDEX', `indirect descriptor ${index} of ${entries}`);
      }
      if (count > limit) {
        throw invalid('DESCRIPTOR_LOOP', `indirect chain of ${chain.head} has a loop`);
      }
      const at = prefetched ? index * DESCRIPTOR_BYTES : 0;
      if (!prefetched) this.memory.readInto(table + index * DESCRIPTOR_BYTES, this.one);
      const entryFlags = this.scratch.readUInt16LE(at + 12);
      if ((entryFlags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        throw invalid('INDIRECT_NESTED', `indirect table of ${chain.head} names another`);
      }
      append(chain, this.scratch, at, entryFlags);
      if ((entryFlags & VIRTQ_DESC_F_NEXT) === 0) return;
      index = this.scratch.readUInt16LE(at + 14);
    }
  }
}

function append(chain: ChainBuilder, bytes: Buffer, at: number, flags: number): void {
  const length = bytes.readUInt32LE(at + 8);
  if (length === 0) {
    throw invalid('DESCRIPTOR_ZERO_LENGTH', `empty descriptor in chain of ${chain.head}`);
  }
  const segment: Segment = { iova: addressOf(bytes, at, length), length };
  if ((flags & VIRTQ_DESC_F_WRITE) !== 0) {
    chain.writable.push(segment);
    chain.writableLength += length;
  } else {
    if (chain.writable.length > 0) {
      // §2.7.4.2: device-writable elements come after all device-readable ones.
      throw invalid('DESCRIPTOR_ORDER', `readable after writable in chain of ${chain.head}`);
    }
    chain.readable.push(segment);
    chain.readableLength += length;
  }
  if (chain.readableLength + chain.writableLength > MAX_CHAIN_BYTES) {
    throw invalid('CHAIN_TOO_LONG', `chain of ${chain.head} exceeds 2^32 bytes`);
  }
}

/** The le64 address of a descriptor, with the whole range below 2^53. */
function addressOf(bytes: Buffer, at: number, length: number): Iova {
  const low = bytes.readUInt32LE(at);
  const high = bytes.readUInt32LE(at + 4);
  const address = high * 2 ** 32 + low;
  if (high > MAX_HIGH_WORD || !Number.isSafeInteger(address + length)) {
    throw invalid(
      'DESCRIPTOR_RANGE',
      `descriptor address 0x${high.toString(16)}:${low} + ${length}`,
    );
  }
  return address;
}

/**
 * A copy of the readable part.
 * @throws VvuError `CHAIN_TOO_LONG`, scope `device`, when it is longer than `limit`
 */
export function readChain(memory: GuestMemory, chain: Chain, limit: number): Buffer {
  if (chain.readableLength > limit) {
    throw invalid('CHAIN_TOO_LONG', `buffer of ${chain.readableLength} bytes, at most ${limit}`);
  }
  const bytes = Buffer.allocUnsafe(chain.readableLength);
  let at = 0;
  for (const segment of chain.readable) {
    memory.readInto(segment.iova, bytes.subarray(at, at + segment.length));
    at += segment.length;
  }
  return bytes;
}

/**
 * Writes `bytes` to the writable part, from its byte `offset` on.
 * @returns the number of bytes of the writable part that are now filled, for `push`
 * @throws VvuError `CHAIN_TOO_SHORT`, scope `device`, before anything is written
 */
export function writeChain(
  memory: GuestMemory,
  chain: Chain,
  bytes: Uint8Array,
  offset = 0,
): number {
  const end = offset + bytes.length;
  if (end > chain.writableLength) {
    throw invalid('CHAIN_TOO_SHORT', `buffer of ${chain.writableLength} bytes, ${end} needed`);
  }
  let segmentStart = 0;
  let done = 0;
  for (const segment of chain.writable) {
    if (done === bytes.length) break;
    const skip = Math.max(0, offset + done - segmentStart);
    if (skip < segment.length) {
      const count = Math.min(segment.length - skip, bytes.length - done);
      const part = count === bytes.length ? bytes : bytes.subarray(done, done + count);
      memory.write(segment.iova + skip, part);
      done += count;
    }
    segmentStart += segment.length;
  }
  return end;
}
