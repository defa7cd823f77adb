/** The frontend's dirty log: which pages of its memory the backend has written. */
import { VvuError } from '../errors.js';
import { hex } from '../vhost-user/index.js';
import type { Iova } from '../virtio/ports.js';
import type { Doorbell } from './notifications.js';
import type { WindowAccess } from './pci-access.js';

/** "Dirty pages are of size 4096 bytes", whatever either guest's pages are. */
const PAGE = 4096;
const BITS = 8;

/** "Log description" as a guest gets it: mmap_offset is the log's place in the window. */
export interface LogPlace {
  readonly mmapSize: bigint;
  readonly mmapOffset: bigint;
}

/**
 * "Migration": bit `page % 8` of byte `page / 8` is set for each page that was written. Where the
 * window is mapped bits are set in atomic steps, so that any number of backends and the frontend,
 * which collects and clears, share a log. In a trapped window a step is a load and a store of one
 * byte: nothing that the frontend clears is lost, but of two backends that mark neighbours in the
 * same byte at the same time one may lose its mark.
 */
export class DirtyLog {
  private readonly start: number;
  /** Pages that the log has bits for. */
  private readonly pages: number;

  /**
   * @param doorbell the log eventfd's, if the frontend has given one
   * @throws VvuError `LOG_RANGE`, scope `request`: the log is not in the window
   */
  constructor(
    private readonly window: Pick<WindowAccess, 'size' | 'orByte'>,
    { mmapSize, mmapOffset }: LogPlace,
    private readonly doorbell: () => Doorbell | undefined,
  ) {
    if (mmapSize === 0n || mmapOffset + mmapSize > BigInt(window.size)) {
      const what = `a log of ${hex(mmapSize)} bytes at ${hex(mmapOffset)} is not in the window`;
      throw new VvuError('LOG_RANGE', 'request', what);
    }
    this.start = Number(mmapOffset);
    this.pages = Number(mmapSize) * BITS;
  }

  /**
   * Marks the pages of [guestAddress, + length), which must have been written before, and rings the
   * log doorbell when that was news. Pages behind the log's end have no bit, and are left out.
   */
  mark(guestAddress: Iova, length: number): void {
    if (length <= 0) return;
    const last = Math.min(Math.floor((guestAddress + length - 1) / PAGE), this.pages - 1);
    let news = false;
    for (let page = Math.floor(guestAddress / PAGE); page <= last;) {
      const byte = Math.floor(page / BITS);
      let bits = 0;
      for (; page <= last && Math.floor(page / BITS) === byte; page++) bits |= 1 << (page % BITS);
      const before = this.window.orByte(this.start + byte, bits);
      news ||= (before | bits) !== before;
    }
    if (news) this.doorbell()?.ring();
  }
}
