import type { IrqAction, PeerFeatures, RemapOp, VfioUserConnection } from './connection.js';
import { VFIO_USER_VERSION } from './constants.js';
import type { VfioUserDevice } from './device.js';
import { checkCommand, type Dispatcher } from './dispatcher.js';
import { DmaHandler } from './dma-handler.js';
import { errnoOf, messageOf, VfioUserError } from './errors.js';
import { encodeErrorReply, encodeReply, isReply, wantsReply } from './header.js';
import { IrqTable } from './irq-table.js';
import { resolveLimits, type VfioUserLimits } from './limits.js';
import { MessageLink } from './link.js';
import { messageById, Messages } from './messages.js';
import { acceptVersion, NO_FEATURES } from './negotiation.js';
import type { VfioUserLog, VfioUserServerOptions } from './options.js';
import type { RawMessage } from './parser.js';
import { checkRegions, RegionHandler } from './region-handler.js';
import { encodeRemap } from './remap.js';
import { RemoteMemory } from './remote-memory.js';
import { Requester } from './requester.js';
import { serverDispatcher } from './server-handlers.js';
import type { Transport } from './transport.js';

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * Serves one client of one device. The device outlives its servers: each connection gets a server
 * of its own.
 *
 * Commands are handled in order, each before the next one is looked at. Whatever is wrong with one
 * is answered with an errno and closes its fds; the connection ends only where the stream cannot be
 * followed any further, or the client speaks another major version.
 */
export class VfioUserServer implements VfioUserConnection {
  readonly #link: MessageLink;
  readonly #requester: Requester;
  readonly #dispatcher: Dispatcher;
  readonly #memory: RemoteMemory;
  readonly #limits: VfioUserLimits;
  readonly #log: VfioUserLog;
  readonly #dma: DmaHandler;
  readonly #irqs: IrqTable;
  #features: PeerFeatures = NO_FEATURES;
  #negotiated = false;

  /**
   * Nothing happens before {@link start}.
   * @throws VfioUserError EINVAL for a device whose mappable areas no client could map
   */
  constructor(
    transport: Transport,
    private readonly device: VfioUserDevice,
    private readonly options: VfioUserServerOptions,
  ) {
    checkRegions(device.regions);
    this.#limits = resolveLimits(options.limits);
    this.#log = options.log ?? {};
    const link = new MessageLink(transport, {
      maxMessageSize: this.#limits.maxMessageSize,
      pauseWhenFull: true,
      log: this.#log,
    });
    this.#link = link;
    this.#irqs = new IrqTable(device.irqs, {
      signal: options.signalEventFd,
      check: (fd) => options.checkEventFd?.(fd),
      close: (fd) => link.closeFd(fd),
      changed: (index, start, count) => device.irqChanged?.(index, start, count),
      warn: (text) => this.#log.warn?.(text),
    });
    this.#requester = new Requester({
      send: (bytes, fds) => link.send(bytes, fds),
      closeFd: (fd) => link.closeFd(fd),
      maxOutstanding: this.#limits.maxOutstanding,
      timeoutMs: options.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS,
      onUnresponsive: () => link.close('UNRESPONSIVE', 'the client does not answer requests'),
    });
    this.#dma = new DmaHandler(device);
    const features = (): PeerFeatures => this.#features;
    this.#memory = new RemoteMemory(this.#dma, this.#requester, features);
    this.#dispatcher = serverDispatcher({
      device,
      dma: this.#dma,
      regions: new RegionHandler(device),
      irqs: this.#irqs,
      features,
    });
  }

  /** Starts the transport. To be called once. */
  start(): void {
    this.#link.start({
      message: (message) => this.#message(message),
      closed: (reason, detail) => this.#closed(reason, detail),
    });
  }

  get clientFeatures(): PeerFeatures {
    return this.#features;
  }

  get closed(): boolean {
    return this.#link.closed;
  }

  /** Number of DMA mappings in force. */
  get dmaMaps(): number {
    return this.#dma.size;
  }

  irqEventFd(index: number, vector: number, action: IrqAction = 'trigger'): number | undefined {
    return this.#irqs.eventFd(index, vector, action);
  }

  irqMasked(index: number, vector: number): boolean {
    return this.#irqs.masked(index, vector);
  }

  triggerIrq(index: number, vector: number): boolean {
    return this.#irqs.trigger(index, vector);
  }

  clearIrq(index: number, vector: number): void {
    this.#irqs.clear(index, vector);
  }

  dmaRead(address: number, length: number): Promise<Uint8Array> {
    return this.#memory.read(address, length);
  }

  dmaWrite(address: number, data: Uint8Array): Promise<void> {
    return this.#memory.write(address, data);
  }

  async remapRegion(index: number, ops: readonly RemapOp[]): Promise<void> {
    if (!this.#features.regionRemap) {
      throw new VfioUserError('ENOTSUP', 'the client did not offer region_remap');
    }
    const region = this.device.regions[index];
    if (region === undefined) throw new VfioUserError('EINVAL', `no region ${index}`);
    const { payload, fds } = encodeRemap(index, region, ops, this.#features);
    await this.#requester.request(Messages.REGION_REMAP, payload, fds);
  }

  close(): void {
    this.#link.close('CLOSED', 'closed by the server');
  }

  /** Takes the fds of the message: what no handler took is closed here, whatever happened. */
  #message(message: RawMessage): void {
    if (isReply(message.header)) {
      if (!this.#requester.settle(message)) this.#log.warn?.('a reply that nobody waits for');
      return;
    }
    this.#command(message);
    for (const fd of message.fds) this.#link.closeFd(fd);
  }

  #command(message: RawMessage): void {
    const { id, command } = message.header;
    const answered = wantsReply(message.header);
    try {
      if (!this.#negotiated) {
        this.#negotiate(message);
        return;
      }
      const { payload, fds } = this.#dispatcher.dispatch(message, this.#limits.maxMsgFds);
      if (answered) this.#link.send(encodeReply(id, command, payload), fds);
    } catch (error) {
      const name = messageById(command)?.name ?? `command ${command}`;
      this.#log.warn?.(`${name} refused: ${messageOf(error)}`);
      if (answered) this.#link.send(encodeErrorReply(id, command, errnoOf(error)));
      this.#closeIfIncompatible(error);
    }
  }

  #negotiate(message: RawMessage): void {
    const { id, command } = message.header;
    if (command !== VFIO_USER_VERSION) {
      throw new VfioUserError('EINVAL', 'the first command must be VFIO_USER_VERSION');
    }
    checkCommand(message, 'client-to-server', this.#limits.maxMsgFds);
    const { features, reply } = acceptVersion(
      Messages.VERSION.request.decode(message.payload),
      this.#limits,
      {
        writeMultiple: this.options.writeMultiple ?? true,
        regionRemap: this.options.regionRemap ?? true,
      },
    );
    this.#features = features;
    this.#negotiated = true;
    this.#link.send(encodeReply(id, command, Messages.VERSION.reply.encode(reply)));
    this.#guard('connected', () => this.device.connected?.(this));
  }

  /** Until a version is agreed on, ENOTSUP means one that never will be. */
  #closeIfIncompatible(error: unknown): void {
    if (!this.#negotiated && error instanceof VfioUserError && error.code === 'ENOTSUP') {
      this.#link.close('BAD_VERSION', error.message);
    }
  }

  /** The specification's "Client Disconnection": mappings and eventfds go, the device's state stays. */
  #closed(reason: string, detail: string): void {
    this.#requester.end(new VfioUserError('ENOTCONN', `connection closed: ${reason}`));
    this.#irqs.close();
    if (this.#negotiated) {
      this.#guard('dmaUnmapAll', () => this.#dma.unmapAll());
      this.#guard('closed', () => this.device.closed?.(this, reason, detail));
    }
    this.options.onClosed?.(reason, detail);
  }

  /** A notification has nobody to answer to: what it throws is logged. */
  #guard(name: string, notify: () => void): void {
    try {
      notify();
    } catch (error) {
      this.#log.warn?.(`device.${name} failed: ${messageOf(error)}`);
    }
  }
}
