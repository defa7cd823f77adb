import type { RemapOp } from './connection.js';
import { VFIO_USER_EXT_REGION_REMAP } from './constants.js';
import { checkCommand, Dispatcher, type EncodedOutcome } from './dispatcher.js';
import { Errno } from './errno.js';
import { errnoOf, messageOf, VfioUserError } from './errors.js';
import { encodeErrorReply, encodeReply, wantsReply } from './header.js';
import type { VfioUserLimits } from './limits.js';
import type { MessageLink } from './link.js';
import { Messages } from './messages.js';
import type { ClientMemory, RegionRemapRequest, VfioUserLog } from './options.js';
import type { RawMessage } from './parser.js';
import { decodeRemap } from './remap.js';

export interface ClientCommandParts {
  readonly link: MessageLink;
  readonly limits: VfioUserLimits;
  readonly log: VfioUserLog;
  readonly memory: ClientMemory | undefined;
  readonly regionRemap: ((request: RegionRemapRequest) => void | Promise<void>) | undefined;
  /** Whether the extension was negotiated. */
  readonly remapInForce: () => boolean;
}

/**
 * The commands of the server, on the client: DMA_READ, DMA_WRITE and region_remap, in order.
 *
 * While the transport is full or a remap is being applied, they wait in a bounded queue; reading
 * goes on, because replies that this client waits for may be behind them. A server that sends more
 * than the queue holds loses its connection.
 */
export class ClientCommands {
  readonly #dispatcher = new Dispatcher('server-to-client');
  readonly #waiting: RawMessage[] = [];
  #busy = false;

  constructor(private readonly parts: ClientCommandParts) {
    this.#dispatcher.on(Messages.DMA_READ, ({ address, count }) => {
      const data = this.#memory(count).read(address, count);
      if (data.length !== count) {
        throw new VfioUserError('EFAULT', `memory gave ${data.length} bytes of ${count}`);
      }
      return { reply: { address, count, data } };
    });
    this.#dispatcher.on(Messages.DMA_WRITE, ({ address, count, data }) => {
      this.#memory(count).write(address, data);
      return { reply: { address, count } };
    });
  }

  /** Takes the message and its fds. */
  handle(message: RawMessage): void {
    if (this.#waiting.length >= this.parts.limits.maxDeferred) {
      this.#closeFds(message);
      this.parts.link.close('FLOODED', `more than ${this.#waiting.length} commands are waiting`);
      return;
    }
    this.#waiting.push(message);
    this.drain();
  }

  /** Handles what waits, as far as possible. */
  drain(): void {
    while (!this.#busy && !this.parts.link.full && !this.parts.link.closed) {
      const message = this.#waiting.shift();
      if (message === undefined) return;
      if (message.header.command === VFIO_USER_EXT_REGION_REMAP) void this.#remap(message);
      else this.#access(message);
    }
  }

  /** The connection is over. */
  dispose(): void {
    for (const message of this.#waiting.splice(0)) this.#closeFds(message);
  }

  #access(message: RawMessage): void {
    try {
      this.#answer(message, this.#dispatcher.dispatch(message, this.parts.limits.maxMsgFds));
    } catch (error) {
      this.#refuse(message, error);
    }
    this.#closeFds(message);
  }

  /** Nothing else of the server is handled before the handler is done: its order is the server's. */
  async #remap(message: RawMessage): Promise<void> {
    this.#busy = true;
    try {
      const { region, ops } = this.#openRemap(message);
      await this.parts.regionRemap?.({ region, ops });
      this.#answer(message, { payload: new Uint8Array(0), fds: [] });
    } catch (error) {
      this.#refuse(message, error);
    }
    this.#closeFds(message);
    this.#busy = false;
    this.drain();
  }

  #openRemap(message: RawMessage): { region: number; ops: RemapOp[] } {
    checkCommand(message, 'server-to-client', this.parts.limits.maxMsgFds);
    if (!this.parts.remapInForce() || this.parts.regionRemap === undefined) {
      throw new VfioUserError('ENOSYS', 'region_remap was not negotiated');
    }
    const payload = Messages.REGION_REMAP.request.decode(message.payload);
    return { region: payload.region, ops: decodeRemap(payload, message.fds) };
  }

  #memory(count: number): ClientMemory {
    if (this.parts.memory === undefined) {
      throw new VfioUserError('ENOTSUP', 'no memory can be accessed by message');
    }
    if (count > this.parts.limits.maxDataXferSize) {
      throw new VfioUserError('EINVAL', `DMA of ${count} bytes in one message`);
    }
    return this.parts.memory;
  }

  #answer({ header }: RawMessage, { payload }: EncodedOutcome): void {
    if (!wantsReply(header)) return;
    this.parts.link.send(encodeReply(header.id, header.command, payload));
  }

  #refuse({ header }: RawMessage, error: unknown): void {
    this.parts.log.warn?.(`command ${header.command} refused: ${messageOf(error)}`);
    if (!wantsReply(header)) return;
    const errno = errnoOf(error, Errno.EFAULT);
    this.parts.link.send(encodeErrorReply(header.id, header.command, errno));
  }

  #closeFds(message: RawMessage): void {
    for (const fd of message.fds.splice(0)) this.parts.link.closeFd(fd);
  }
}
