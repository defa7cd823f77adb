import { VvuError } from '../errors.js';
import type { Native } from '../native.js';
import type { RegisterBlock } from '../virtio/ports.js';
import { asRequestError } from './doorbells.js';
import type { Binding, KickHost } from './ports.js';
import { NO_VECTOR } from './ports.js';

type Fds = Pick<Native, 'checkEventFd' | 'closeFd'>;

interface Kick {
  vector: number;
  fd: number | undefined;
  binding: Binding | undefined;
}

/**
 * Kick eventfds of the frontend and the interrupt vectors that the driver assigned to them, in
 * whatever order the two arrive. Owns the eventfds.
 */
export class Kicks {
  readonly #kicks: Kick[];

  constructor(
    private readonly fds: Fds,
    private readonly host: KickHost,
    maxVhostQueues: number,
  ) {
    this.#kicks = Array.from({ length: maxVhostQueues }, () => ({
      vector: NO_VECTOR,
      fd: undefined,
      binding: undefined,
    }));
  }

  get count(): number {
    return this.#kicks.length;
  }

  /** Takes ownership of `fd`; undefined unbinds. */
  bind(vring: number, fd: number | undefined): void {
    const kick = this.#kicks[vring];
    try {
      if (!kick) {
        throw new VvuError(
          'VRING_INDEX',
          'request',
          `vring index ${vring} is not below ${this.#kicks.length}`,
        );
      }
      if (fd !== undefined) this.fds.checkEventFd(fd);
    } catch (error) {
      if (fd !== undefined) this.fds.closeFd(fd);
      throw asRequestError(error, 'kick', vring);
    }
    this.#release(kick);
    kick.fd = fd;
    this.#connect(kick);
  }

  vector(vring: number): number {
    return this.#kicks[vring]?.vector ?? NO_VECTOR;
  }

  /** Assigns a vector, with virtio's read-back rule: one that does not exist becomes NO_VECTOR. */
  setVector(vring: number, vector: number): void {
    const kick = this.#kicks[vring];
    if (!kick) return;
    kick.binding?.close();
    kick.binding = undefined;
    kick.vector = vector < this.host.vectorCount ? vector : NO_VECTOR;
    this.#connect(kick);
  }

  /** vring -> vector of those whose kick eventfd is bound. */
  get bound(): readonly { readonly vring: number; readonly vector: number }[] {
    return this.#kicks.flatMap(({ fd, vector }, vring) =>
      fd === undefined ? [] : [{ vring, vector }],
    );
  }

  /** Takes the frontend's eventfds back; the driver's vectors stay. */
  clear(): void {
    for (const kick of this.#kicks) this.#release(kick);
  }

  /** Device reset: the vectors go too. */
  reset(): void {
    this.clear();
    for (const kick of this.#kicks) kick.vector = NO_VECTOR;
  }

  #connect(kick: Kick): void {
    if (kick.fd !== undefined) kick.binding = this.host.bind(kick.fd, kick.vector);
  }

  #release(kick: Kick): void {
    kick.binding?.close();
    kick.binding = undefined;
    if (kick.fd !== undefined) this.fds.closeFd(kick.fd);
    kick.fd = undefined;
  }
}

/** The notification structure (capability type 7): le16 select, le16 msix_vector. */
export class NotificationRegisters implements RegisterBlock {
  readonly size = 4;
  #select = 0;

  constructor(private readonly kicks: Kicks) {}

  read(offset: number, target: Uint8Array): void {
    target.set(this.#image().subarray(offset, offset + target.length));
  }

  write(offset: number, bytes: Uint8Array): void {
    const image = this.#image();
    image.set(bytes, offset);
    if (offset < 2) this.#select = image.readUInt16LE(0);
    if (offset + bytes.length > 2) {
      // A write of both fields selects first and then assigns.
      this.kicks.setVector(this.#select, image.readUInt16LE(2));
    }
  }

  reset(): void {
    this.#select = 0;
  }

  #image(): Buffer {
    const image = Buffer.alloc(this.size);
    image.writeUInt16LE(this.#select, 0);
    image.writeUInt16LE(this.kicks.vector(this.#select), 2);
    return image;
  }
}
