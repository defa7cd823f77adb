/** In-flight tracking of a local backend: its buffer becomes the device's, which outlives it. */
import { VvuError } from '../../errors.js';
import type { Native } from '../../native.js';
import { hex, type Inflight } from '../../vhost-user/index.js';
import type { WindowAccess } from '../pci-access.js';

const PAGE = 4096;
/** Bytes per copy. */
const CHUNK = 64 * 1024;

export type InflightWindow = Pick<WindowAccess, 'file' | 'memory'>;

/** A request for the backend, with an fd that stays the owner's. */
export interface InflightRequest {
  readonly value: Inflight;
  readonly fd: number;
}

/**
 * A backend makes a buffer of its own and gives its fd. The frontend will get the device's buffer
 * instead, so that one is given to the backend at once, with what the backend had put into its own.
 */
export class InflightExchange {
  /** GET_INFLIGHT_FD requests as the device sent them, which the backend owes an answer to. */
  private readonly offers: Inflight[] = [];

  constructor(
    private readonly native: Pick<Native, 'map'>,
    private readonly window: InflightWindow,
  ) {}

  /**
   * GET_INFLIGHT_FD as a backend expects it.
   * @throws VvuError `INFLIGHT_NOT_MAPPED` of scope `request`: the device's buffer is trapped
   */
  ask(offer: Inflight): Inflight {
    this.request(offer);
    this.offers.push(offer);
    return { ...offer, mmapSize: 0n, mmapOffset: 0n };
  }

  /** SET_INFLIGHT_FD as a backend expects it. @throws VvuError `INFLIGHT_NOT_MAPPED` */
  request(shown: Inflight): InflightRequest {
    const { mmapSize, mmapOffset } = shown;
    const reachable = mmapOffset + mmapSize <= BigInt(Number.MAX_SAFE_INTEGER);
    const file = reachable ? this.window.file(Number(mmapOffset), Number(mmapSize)) : undefined;
    if (file === undefined) {
      throw new VvuError(
        'INFLIGHT_NOT_MAPPED',
        'request',
        `the in-flight buffer of ${hex(mmapSize)} bytes at ${hex(mmapOffset)} is trapped, and a ` +
          'backend in another process cannot map it',
      );
    }
    return { value: { ...shown, mmapOffset: BigInt(file.offset) }, fd: file.fd };
  }

  /**
   * The backend's answer: copies its buffer, so that it finds in the device's what it expects.
   * @param fd stays the caller's; undefined when the backend has no buffer to give
   * @returns the SET_INFLIGHT_FD that the backend must get now, undefined when it tracks nothing
   * @throws VvuError of scope `peer`: the answer makes no sense
   */
  answered(answer: Inflight, fd: number | undefined): InflightRequest | undefined {
    const offer = this.offers.shift();
    if (offer === undefined || answer.mmapSize === 0n || fd === undefined) return undefined;
    if (answer.mmapSize > offer.mmapSize) {
      const what = `${hex(answer.mmapSize)} bytes, more than the layouts of the specification`;
      throw new VvuError('BAD_REPLY', 'peer', `an in-flight buffer of ${what}`);
    }
    this.copy(fd, answer, Number(offer.mmapOffset));
    return this.request({ ...answer, mmapOffset: offer.mmapOffset });
  }

  private copy(fd: number, { mmapSize, mmapOffset }: Inflight, place: number): void {
    const skip = Number(mmapOffset % BigInt(PAGE));
    const offset = Number(mmapOffset) - skip;
    const length = Number(mmapSize);
    const source = this.native.map(fd, { offset, length: skip + length, writable: false });
    try {
      for (let done = 0; done < length; done += CHUNK) {
        const count = Math.min(CHUNK, length - done);
        const part = source.read(skip + done, count);
        // The device's buffer is new: it holds zeros already, and may be slow to write.
        if (part.some((byte) => byte !== 0)) this.window.memory.write(place + done, part);
      }
    } finally {
      source.release();
    }
  }
}
