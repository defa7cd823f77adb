import { VvuError } from '../errors.js';
import type { ByteOrder } from './codec.js';
import { VHOST_USER_HDR_SIZE } from './constants.js';
import { decodeHeader, MAX_FDS, type Frame, type FrameHeader } from './frame.js';

/** A message as it came from a stream; the receiver owns the fds. */
export interface ReceivedFrame extends Frame {
  readonly fds: readonly number[];
}

function badStream(code: string, detail: string): VvuError {
  return new VvuError(code, 'peer', `vhost-user stream: ${detail}`);
}

/**
 * Cuts a byte stream into messages, whatever its chunks are; does no I/O. Holds less than one
 * message and its fds.
 *
 * Fds belong to the chunk's first byte and must come with the first byte of a message, as the
 * kernel delivers them to a reader that reads header and payload apart.
 */
export class FrameParser {
  #bytes: Buffer = Buffer.alloc(0);
  #fds: number[] = [];
  #header: FrameHeader | undefined;
  #failed = false;

  constructor(readonly order: ByteOrder) {}

  /**
   * Takes a chunk and ownership of its fds; returns the messages that are complete now.
   * @throws VvuError of scope `peer` (`BAD_HEADER`, `BAD_FDS`); then the parser is unusable, and
   * {@link takeFds} gives back what it owns, including the fds of messages that came before the
   * bad one in this chunk
   */
  push(chunk: Uint8Array, fds: readonly number[] = []): ReceivedFrame[] {
    this.#acceptFds(chunk, fds);
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    const frames: ReceivedFrame[] = [];
    try {
      for (let frame = this.#next(); frame !== undefined; frame = this.#next()) {
        frames.push(frame);
      }
    } catch (error) {
      this.#failed = true;
      this.#fds.push(...frames.flatMap((frame) => frame.fds));
      throw error;
    }
    return frames;
  }

  /** Whether the stream is between two messages: an end of file here is an orderly one. */
  get idle(): boolean {
    return this.#bytes.length === 0;
  }

  /** The fds of an incomplete or refused message, which are the caller's from now on. */
  takeFds(): number[] {
    return this.#fds.splice(0);
  }

  #acceptFds(chunk: Uint8Array, fds: readonly number[]): void {
    const misplaced = fds.length > 0 && (!this.idle || chunk.length === 0);
    this.#fds.push(...fds);
    if (this.#failed) {
      throw badStream('BAD_HEADER', 'the stream has failed before');
    }
    if (misplaced || this.#fds.length > MAX_FDS) {
      this.#failed = true;
      throw badStream(
        'BAD_FDS',
        misplaced ? 'fds inside a message' : `${this.#fds.length} fds, at most 8`,
      );
    }
  }

  #next(): ReceivedFrame | undefined {
    if (this.#header === undefined && this.#bytes.length >= VHOST_USER_HDR_SIZE) {
      this.#header = decodeHeader(this.#bytes, this.order);
    }
    const header = this.#header;
    const end = VHOST_USER_HDR_SIZE + (header?.size ?? 0);
    if (header === undefined || this.#bytes.length < end) {
      return undefined;
    }
    const payload = this.#bytes.subarray(VHOST_USER_HDR_SIZE, end);
    this.#bytes = this.#bytes.subarray(end);
    this.#header = undefined;
    return { ...header, payload, fds: this.#fds.splice(0) };
  }
}
