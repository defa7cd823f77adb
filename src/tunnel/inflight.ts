import { VvuError } from '../errors.js';
import {
  hex,
  inflightCapacity,
  inflightMinimum,
  NO_INFLIGHT,
  VIRTQUEUE_MAX_SIZE,
  type Inflight,
} from '../vhost-user/index.js';
import type { TunnelBackend } from './ports.js';
import type { FdCloser, ReceivedFds } from './received-fds.js';

/** Largest buffer that a frontend gets: 128 queues of 8,192 packed descriptors, for example. */
export const MAX_INFLIGHT_BYTES = 32 * 2 ** 20;
/** Buffers that one connection may ask for; each lives as long as the frontend keeps its fd. */
const MAX_BUFFERS = 16;
const PAGE = 4096;

/** A GET_INFLIGHT_FD whose reply the guest owes, with the memfd that goes with it. */
interface Provided {
  readonly fd: number;
  readonly size: number;
}

function refused(code: string, message: string): VvuError {
  return new VvuError(code, 'request', message);
}

/**
 * In-flight tracking of one connection ("Inflight I/O tracking"). The buffer is the device's: a
 * guest has no fd to give. The guest is told its place in the window and how large it is, sets it up
 * as it likes, and says how much of it the frontend is to keep.
 *
 * Owns the memfds that wait for the guest's answer.
 */
export class InflightBuffers {
  #provided: Provided[] = [];
  #left = MAX_BUFFERS;
  #closed = false;

  constructor(
    private readonly backend: TunnelBackend,
    private readonly closer: FdCloser,
  ) {}

  /**
   * GET_INFLIGHT_FD.
   * @returns the request as the guest is to see it
   * @throws VvuError `NO_INFLIGHT` of scope `request`: answer with {@link NO_INFLIGHT}
   */
  async provide({ numQueues, queueSize }: Inflight): Promise<Inflight> {
    try {
      this.#checkQueues(numQueues, queueSize);
      const size = Math.ceil(inflightCapacity(numQueues, queueSize) / PAGE) * PAGE;
      if (size > MAX_INFLIGHT_BYTES) {
        throw refused('BAD_INFLIGHT', `a buffer of ${hex(size)} bytes is too large`);
      }
      if (this.#left === 0) {
        throw refused('BAD_INFLIGHT', `more than ${MAX_BUFFERS} buffers on one connection`);
      }
      this.#left--;
      const { place, fd } = await this.backend.createInflight(size);
      this.#keep({ fd, size });
      return { mmapSize: BigInt(size), mmapOffset: place, numQueues, queueSize };
    } catch (error) {
      if (!(error instanceof VvuError) || error.scope !== 'request') throw error;
      const what = `in-flight requests cannot be tracked: ${error.message}`;
      throw new VvuError('NO_INFLIGHT', 'request', what, { cause: error });
    }
  }

  /**
   * SET_INFLIGHT_FD.
   * @returns the request as the guest is to see it
   * @throws VvuError of scope `request`
   */
  async show(value: Inflight, fds: ReceivedFds): Promise<Inflight> {
    const { mmapSize, mmapOffset, numQueues, queueSize } = value;
    this.#checkQueues(numQueues, queueSize);
    const least = inflightMinimum(numQueues, queueSize);
    if (mmapSize < BigInt(least) || mmapSize > BigInt(MAX_INFLIGHT_BYTES)) {
      throw refused(
        'BAD_INFLIGHT',
        `a buffer of ${hex(mmapSize)} bytes for ${numQueues} queues of ${queueSize}`,
      );
    }
    const [fd = -1] = fds.takeAll();
    const place = await this.backend.setInflight({ size: mmapSize, mmapOffset, fd });
    return { ...value, mmapOffset: place };
  }

  /**
   * The guest's reply to the oldest GET_INFLIGHT_FD, and the memfd for the frontend, which the
   * caller owns.
   * @throws VvuError when the guest claims more than it was given
   */
  answer(value: Inflight): { readonly value: Inflight; readonly fd: number | undefined } {
    const provided = this.#provided.shift();
    const { mmapSize } = value;
    if (provided === undefined || mmapSize === 0n || mmapSize > BigInt(provided.size)) {
      if (provided !== undefined) this.closer.closeFd(provided.fd);
      if (mmapSize === 0n) return { value: NO_INFLIGHT, fd: undefined };
      const given = hex(provided?.size ?? 0);
      throw refused('BAD_INFLIGHT', `a buffer of ${hex(mmapSize)} bytes where ${given} were given`);
    }
    return { value: { ...value, mmapOffset: 0n }, fd: provided.fd };
  }

  /** The connection is over. */
  close(): void {
    this.#closed = true;
    for (const { fd } of this.#provided.splice(0)) this.closer.closeFd(fd);
  }

  #keep(provided: Provided): void {
    if (this.#closed) {
      this.closer.closeFd(provided.fd);
      throw new VvuError('CLOSED', 'peer', 'the frontend left while its buffer was being shown');
    }
    this.#provided.push(provided);
  }

  #checkQueues(numQueues: number, queueSize: number): void {
    const { maxVhostQueues } = this.backend;
    const fits = numQueues <= maxVhostQueues && queueSize <= VIRTQUEUE_MAX_SIZE;
    if (numQueues === 0 || queueSize === 0 || !fits) {
      throw refused('BAD_INFLIGHT', `tracking of ${numQueues} queues of ${queueSize} descriptors`);
    }
  }
}
