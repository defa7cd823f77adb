import type { PeerFeatures } from './connection.js';
import type { DmaHandler } from './dma-handler.js';
import { VfioUserError } from './errors.js';
import { Messages } from './messages.js';
import type { Requester } from './requester.js';

/**
 * Client memory by message (VFIO_USER_DMA_READ and _WRITE): cut into transfers of the negotiated
 * size, one after the other. Each is checked against the mappings when it is sent, because the
 * client may unmap the rest of a range meanwhile.
 */
export class RemoteMemory {
  constructor(
    private readonly dma: DmaHandler,
    private readonly requester: Requester,
    private readonly features: () => PeerFeatures,
  ) {}

  async read(address: number, length: number): Promise<Uint8Array> {
    this.dma.checkAccess(address, length, 'readable');
    const result = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const part = { address: address + done, count: this.#part(length - done) };
      this.dma.checkAccess(part.address, part.count, 'readable');
      const { reply } = await this.requester.request(Messages.DMA_READ, part);
      if (reply.address !== part.address || reply.count !== part.count) {
        throw new VfioUserError('EPROTO', `DMA read of ${part.count} bytes gave ${reply.count}`);
      }
      result.set(reply.data, done);
      done += part.count;
    }
    return result;
  }

  async write(address: number, data: Uint8Array): Promise<void> {
    this.dma.checkAccess(address, data.length, 'writable');
    for (let done = 0; done < data.length;) {
      const part = { address: address + done, count: this.#part(data.length - done) };
      this.dma.checkAccess(part.address, part.count, 'writable');
      const { reply } = await this.requester.request(Messages.DMA_WRITE, {
        ...part,
        data: data.subarray(done, done + part.count),
      });
      if (reply !== undefined && reply.count !== part.count) {
        throw new VfioUserError('EPROTO', `DMA write of ${part.count} bytes did ${reply.count}`);
      }
      done += part.count;
    }
  }

  #part(left: number): number {
    return Math.min(left, this.features().maxDataXferSize);
  }
}
