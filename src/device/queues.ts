import { VvuError } from '../errors.js';
import type { DriverPort } from '../virtio/ports.js';
import type { SplitQueue } from '../virtio/split-queue.js';
import { readChain, writeChain } from '../virtio/split-queue.js';

/** Longest message that a driver may put on txq: far above any that the protocol knows. */
export const MAX_GUEST_MESSAGE = 16 * 1024;

/**
 * rxq: one vhost-user message per buffer, device to driver.
 */
export class ReceiveQueue {
  constructor(
    private readonly queue: SplitQueue,
    private readonly port: DriverPort,
  ) {}

  /**
   * @returns false when the driver has no buffer for it; a kick will tell when there is one
   * @throws VvuError of scope `device` for a broken ring, of scope `peer` for a message that the
   * driver's buffer cannot hold: the frontend chose its size, so it must not break the device
   */
  put(message: Uint8Array): boolean {
    const chain = this.queue.pop();
    if (!chain) return this.#retryAfterKick(message);
    this.queue.disableKicks();
    if (chain.writableLength < message.length) {
      this.queue.unpop();
      throw new VvuError(
        'RXQ_BUFFER_TOO_SMALL',
        'peer',
        `rxq buffer of ${chain.writableLength} bytes for a message of ${message.length}`,
      );
    }
    this.queue.push(chain, writeChain(this.port.memory, chain, message));
    if (this.queue.flush()) this.port.notifyQueue(this.queue.index);
    return true;
  }

  /** The queue is empty: ask for a kick, and look again for a buffer that came just before. */
  #retryAfterKick(message: Uint8Array): boolean {
    return this.queue.enableKicks() ? this.put(message) : false;
  }
}

/**
 * txq: one vhost-user message per buffer, driver to device.
 */
export class TransmitQueue {
  constructor(
    private readonly queue: SplitQueue,
    private readonly port: DriverPort,
  ) {}

  /**
   * Hands messages to `consume` until it returns false or those are done that were there at the
   * call, at most as many as the queue holds.
   * @returns true when more came in the meantime, for which there will be no kick
   * @throws VvuError of scope `device` for a broken ring, or what `consume` throws
   */
  drain(consume: (message: Buffer) => boolean): boolean {
    let open = true;
    let chain;
    // What was pushed and not flushed counts against the queue's size, so this comes to an end.
    while (open && (chain = this.queue.pop())) {
      const message = readChain(this.port.memory, chain, MAX_GUEST_MESSAGE);
      this.queue.push(chain, 0);
      open = consume(message);
    }
    if (this.queue.flush()) this.port.notifyQueue(this.queue.index);
    return open && this.queue.enableKicks();
  }
}
