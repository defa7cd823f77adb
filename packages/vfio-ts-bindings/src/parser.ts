import { VFIO_USER_HEADER_SIZE } from './constants.js';
import { VfioUserError } from './errors.js';
import { decodeHeader, type MessageHeader } from './header.js';

/** One whole message. Whoever takes it from the parser owns the fds that are still in it. */
export interface RawMessage {
  readonly header: MessageHeader;
  /** The bytes behind the header: a window on the chunk that they came in, or a copy. */
  readonly payload: Uint8Array;
  /** Those that came with the message's first byte. */
  readonly fds: number[];
}

interface Chunk {
  readonly bytes: Uint8Array;
  /** Bytes already taken. */
  offset: number;
  /** Not yet given to a message. */
  fds: readonly number[];
}

/**
 * Cuts a stream of chunks into messages: bytes and fds in, messages out, no I/O.
 *
 * A chunk may be cut anywhere. Its fds belong to the first message that starts in it; fds of a chunk
 * in which none starts belong to nobody and are closed.
 *
 * Messages are pulled, so that a consumer that cannot answer yet leaves the rest here. Between
 * pulls, a message that is not complete is held in a buffer of its own and not in its chunks: a
 * peer that sends single bytes pins one message's worth of memory, and no more.
 */
export class MessageParser {
  #chunks: Chunk[] = [];
  readonly #headerBytes = new Uint8Array(VFIO_USER_HEADER_SIZE);
  #headerFill = 0;
  #header: MessageHeader | undefined;
  #body: Uint8Array | undefined;
  #bodyFill = 0;
  #fds: number[] = [];

  /**
   * @param maxMessageSize a longer message makes {@link next} throw
   * @param closeFd closes fds that belong to no message
   */
  constructor(
    private readonly maxMessageSize: number,
    private readonly closeFd: (fd: number) => void,
  ) {}

  /** Adds a chunk, which must not change afterwards; the parser owns the fds from now on. */
  push(bytes: Uint8Array, fds: readonly number[] = []): void {
    if (bytes.length === 0) {
      for (const fd of fds) this.closeFd(fd);
      return;
    }
    this.#chunks.push({ bytes, offset: 0, fds });
  }

  /** Whether the stream stands inside of a message. */
  get midMessage(): boolean {
    return this.#headerFill > 0 || this.#header !== undefined || this.#chunks.length > 0;
  }

  /**
   * The next whole message, or undefined until more bytes came.
   * @throws VfioUserError EBADMSG or EMSGSIZE when the header's size is below 16 or above the
   * limit: the stream cannot be followed any further
   */
  next(): RawMessage | undefined {
    this.#header ??= this.#takeHeader();
    const header = this.#header;
    if (header === undefined) return undefined;
    const payload = this.#takeBody(header.size - VFIO_USER_HEADER_SIZE);
    if (payload === undefined) return undefined;
    const fds = this.#fds;
    this.#header = undefined;
    this.#fds = [];
    return { header, payload, fds };
  }

  /** Closes the fds of messages that will not be delivered, and forgets all bytes. */
  dispose(): void {
    for (const fd of this.#fds) this.closeFd(fd);
    for (const chunk of this.#chunks) this.#closeStrays(chunk);
    this.#fds = [];
    this.#chunks = [];
    this.#header = undefined;
    this.#headerFill = 0;
    this.#body = undefined;
    this.#bodyFill = 0;
  }

  #takeHeader(): MessageHeader | undefined {
    const size = VFIO_USER_HEADER_SIZE;
    for (let chunk = this.#chunks[0]; chunk !== undefined; chunk = this.#chunks[0]) {
      if (this.#headerFill === 0) {
        this.#fds = [...chunk.fds];
        chunk.fds = [];
      }
      const part = this.#takeFrom(chunk, size - this.#headerFill);
      this.#headerBytes.set(part, this.#headerFill);
      this.#headerFill += part.length;
      if (this.#headerFill === size) {
        this.#headerFill = 0;
        return this.#checked(decodeHeader(this.#headerBytes));
      }
    }
    return undefined;
  }

  #checked(header: MessageHeader): MessageHeader {
    if (header.size < VFIO_USER_HEADER_SIZE) {
      throw new VfioUserError('EBADMSG', `message size ${header.size} is below the header's`);
    }
    if (header.size > this.maxMessageSize) {
      throw new VfioUserError(
        'EMSGSIZE',
        `message size ${header.size} is above the limit of ${this.maxMessageSize}`,
      );
    }
    return header;
  }

  #takeBody(length: number): Uint8Array | undefined {
    const first = this.#chunks[0];
    if (length === 0) return new Uint8Array(0);
    if (first === undefined) return undefined;
    if (this.#body === undefined && first.bytes.length - first.offset >= length) {
      return this.#takeFrom(first, length);
    }
    this.#body ??= new Uint8Array(length);
    for (let chunk = this.#chunks[0]; chunk !== undefined; chunk = this.#chunks[0]) {
      const part = this.#takeFrom(chunk, length - this.#bodyFill);
      this.#body.set(part, this.#bodyFill);
      this.#bodyFill += part.length;
      if (this.#bodyFill === length) return this.#takeWholeBody(this.#body);
    }
    return undefined;
  }

  #takeWholeBody(body: Uint8Array): Uint8Array {
    this.#body = undefined;
    this.#bodyFill = 0;
    return body;
  }

  /** Up to `length` bytes of the first chunk, which is dropped when it is used up. */
  #takeFrom(chunk: Chunk, length: number): Uint8Array {
    const part = chunk.bytes.subarray(chunk.offset, chunk.offset + length);
    chunk.offset += part.length;
    if (chunk.offset === chunk.bytes.length) {
      this.#closeStrays(chunk);
      this.#chunks.shift();
    }
    return part;
  }

  #closeStrays(chunk: Chunk): void {
    for (const fd of chunk.fds) this.closeFd(fd);
    chunk.fds = [];
  }
}
