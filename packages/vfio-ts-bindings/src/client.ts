import type { PeerFeatures } from './connection.js';
import { ClientCommands } from './client-commands.js';
import type { DmaMapOptions, RegionInfo, RegionIoFds, RegionWrite } from './client-types.js';
import { DEVICE_INFO_SIZE, type DeviceInfo } from './codec/device-info.js';
import { IO_FDS_SIZE } from './codec/io-fds.js';
import { IRQ_INFO_SIZE, type IrqInfo, type SetIrqsRequest } from './codec/irq.js';
import type { RegionData } from './codec/region-access.js';
import { REGION_INFO_SIZE } from './codec/region-info.js';
import {
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_USER_F_DMA_REGION_READ,
  VFIO_USER_F_DMA_REGION_WRITE,
  VFIO_USER_HEADER_SIZE,
} from './constants.js';
import { messageOf, VfioUserError } from './errors.js';
import { decodeHeader, encodeCommand, isReply } from './header.js';
import { resolveLimits, type VfioUserLimits } from './limits.js';
import { MessageLink } from './link.js';
import { Messages, type MessageDescriptor } from './messages.js';
import { concludeVersion, NO_FEATURES, proposeVersion, type Willing } from './negotiation.js';
import type { VfioUserClientOptions, VfioUserLog } from './options.js';
import type { RawMessage } from './parser.js';
import { decodeReply, Requester, type Answer } from './requester.js';
import type { Transport } from './transport.js';

const DEFAULT_TIMEOUT_MS = 5_000;
/** argsz of the largest variable reply that is asked for: thousands of areas or sub-regions. */
const MAX_ARGSZ = 0x1_0000;

/**
 * The hypervisor's side of a vfio-user device.
 *
 * All methods reject (or throw) with a {@link VfioUserError}: the server's errno, with `remote` set,
 * or ENOTCONN, ETIMEDOUT, EBUSY (too many requests outstanding), EPROTO, or EINVAL for an argument
 * that the protocol has no room for. fds that are passed in stay the caller's.
 */
export class VfioUserClient {
  readonly #link: MessageLink;
  readonly #requester: Requester;
  readonly #commands: ClientCommands;
  readonly #limits: VfioUserLimits;
  readonly #willing: Willing;
  readonly #timeoutMs: number;
  readonly #log: VfioUserLog;
  #features: PeerFeatures = NO_FEATURES;

  constructor(
    private readonly transport: Transport,
    private readonly options: VfioUserClientOptions = {},
  ) {
    this.#limits = resolveLimits(options.limits);
    this.#timeoutMs = options.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#log = options.log ?? {};
    this.#willing = {
      writeMultiple: options.writeMultiple ?? true,
      regionRemap: options.regionRemap !== undefined,
    };
    const link = new MessageLink(transport, {
      maxMessageSize: this.#limits.maxMessageSize,
      pauseWhenFull: false,
      log: this.#log,
    });
    this.#link = link;
    this.#requester = new Requester({
      send: (bytes, fds) => link.send(bytes, fds),
      closeFd: (fd) => link.closeFd(fd),
      maxOutstanding: this.#limits.maxOutstanding,
      timeoutMs: this.#timeoutMs,
      onUnresponsive: () => link.close('UNRESPONSIVE', 'the server does not answer requests'),
    });
    this.#commands = new ClientCommands({
      link,
      limits: this.#limits,
      log: this.#log,
      memory: options.memory,
      regionRemap: options.regionRemap,
      remapInForce: () => this.#features.regionRemap,
    });
  }

  /** Starts the transport and negotiates. To be called once; closes the connection on failure. */
  async connect(): Promise<PeerFeatures> {
    this.#link.start({
      message: (message) => this.#message(message),
      writable: () => this.#commands.drain(),
      closed: (reason, detail) => this.#closed(reason, detail),
    });
    try {
      const proposal = proposeVersion(this.#limits, this.#willing);
      const { reply } = await this.#requester.request(Messages.VERSION, proposal);
      this.#features = concludeVersion(reply, this.#limits, this.#willing);
    } catch (error) {
      this.#link.close('BAD_VERSION', messageOf(error));
      throw error;
    }
    return this.#features;
  }

  /** What is in force; empty before {@link connect} resolved. */
  get serverFeatures(): PeerFeatures {
    return this.#features;
  }

  get closed(): boolean {
    return this.#link.closed;
  }

  /** Any command of the client, for what has no method of its own. */
  request<Q, R>(
    descriptor: MessageDescriptor<Q, R>,
    value: Q,
    fds: readonly number[] = [],
  ): Promise<Answer<R>> {
    return this.#requester.request(descriptor, value, fds);
  }

  /**
   * The same, blocking this thread for one round trip, as a virtual CPU does; without fds. Commands
   * of the server are answered afterwards, so a server must not need them for its reply.
   */
  requestSync<Q, R>(descriptor: MessageDescriptor<Q, R>, value: Q): R {
    if (this.#link.closed) throw new VfioUserError('ENOTCONN', 'connection closed');
    if (this.transport.request === undefined) {
      throw new VfioUserError('ENOTSUP', 'the transport has no blocking requests');
    }
    const id = this.#requester.allocateId();
    const bytes = encodeCommand(id, descriptor.id, descriptor.request.encode(value));
    const answer = this.#exchange(this.transport.request.bind(this.transport), bytes, id);
    const header = decodeHeader(answer);
    if (answer.length !== header.size || !isReply(header) || header.id !== id) {
      throw new VfioUserError('EPROTO', `no reply to ${descriptor.name}`);
    }
    return decodeReply(descriptor, header, answer.subarray(VFIO_USER_HEADER_SIZE));
  }

  async deviceInfo(): Promise<DeviceInfo> {
    return this.#ask(Messages.DEVICE_GET_INFO, { argsz: DEVICE_INFO_SIZE });
  }

  /** Asks as often as the server needs to tell its capabilities. */
  async regionInfo(index: number): Promise<RegionInfo> {
    const { reply, fds } = await this.#askGrowing(REGION_INFO_SIZE, (argsz) =>
      this.#requester.request(Messages.DEVICE_GET_REGION_INFO, { argsz, index }),
    );
    const { flags, size, offset, areas } = reply;
    const mappable = (flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0;
    if (reply.index !== index || mappable !== fds.length > 0) {
      this.#closeFds(fds);
      throw new VfioUserError('EPROTO', `reply about region ${reply.index} with ${fds.length} fds`);
    }
    return { index, flags, size, offset, areas, fd: fds[0] };
  }

  async regionIoFds(index: number): Promise<RegionIoFds> {
    const { reply, fds } = await this.#askGrowing(IO_FDS_SIZE, (argsz) =>
      this.#requester.request(Messages.DEVICE_GET_REGION_IO_FDS, { argsz, index }),
    );
    if (reply.index !== index || reply.entries.some(({ fdIndex }) => fdIndex >= fds.length)) {
      this.#closeFds(fds);
      throw new VfioUserError('EPROTO', `bad fd indices in the sub-regions of region ${index}`);
    }
    return { entries: reply.entries, fds };
  }

  async irqInfo(index: number): Promise<IrqInfo> {
    return this.#ask(Messages.DEVICE_GET_IRQ_INFO, { argsz: IRQ_INFO_SIZE, index });
  }

  /** One SET_IRQS command; see {@link SetIrqsRequest} for the combinations. */
  async setIrqs(request: SetIrqsRequest, fds: readonly number[] = []): Promise<void> {
    await this.#requester.request(Messages.DEVICE_SET_IRQS, request, fds);
  }

  /** Lets the server signal `fds[i]` for vector `start + i`, in messages that it can receive. */
  async setIrqEventFds(index: number, start: number, fds: readonly number[]): Promise<void> {
    const step = Math.max(1, this.#features.maxMsgFds);
    const flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    for (let done = 0; done < fds.length; done += step) {
      const part = fds.slice(done, done + step);
      const range = { index, start: start + done, count: part.length };
      await this.setIrqs({ flags, ...range, bools: undefined }, part);
    }
  }

  /** Takes all eventfds of an index away. */
  async disableIrqs(index: number): Promise<void> {
    const flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    await this.setIrqs({ flags, index, start: 0, count: 0, bools: undefined });
  }

  /** At most `serverFeatures.maxDataXferSize` bytes. */
  async regionRead(region: number, offset: number, count: number): Promise<Uint8Array> {
    this.#checkCount(count);
    const reply = await this.#ask(Messages.REGION_READ, { offset, region, count });
    return readResult(reply, count);
  }

  async regionWrite(region: number, offset: number, data: Uint8Array): Promise<void> {
    this.#checkCount(data.length);
    const request = { offset, region, count: data.length, data };
    checkWritten((await this.#ask(Messages.REGION_WRITE, request)).count, data.length);
  }

  /** Without a reply (No_reply): later commands are handled after it, errors are lost. */
  regionWritePosted(region: number, offset: number, data: Uint8Array): void {
    this.#checkCount(data.length);
    this.#requester.post(Messages.REGION_WRITE, { offset, region, count: data.length, data });
  }

  /** @throws VfioUserError ENOTSUP if the server did not negotiate write_multiple */
  async regionWriteMulti(writes: readonly RegionWrite[]): Promise<void> {
    const request = { writes: this.#multiEntries(writes) };
    const { count } = await this.#ask(Messages.REGION_WRITE_MULTI, request);
    checkWritten(count, writes.length);
  }

  regionWriteMultiPosted(writes: readonly RegionWrite[]): void {
    this.#requester.post(Messages.REGION_WRITE_MULTI, { writes: this.#multiEntries(writes) });
  }

  regionReadSync(region: number, offset: number, count: number): Uint8Array {
    this.#checkCount(count);
    return readResult(this.requestSync(Messages.REGION_READ, { offset, region, count }), count);
  }

  regionWriteSync(region: number, offset: number, data: Uint8Array): void {
    this.#checkCount(data.length);
    const request = { offset, region, count: data.length, data };
    checkWritten(this.requestSync(Messages.REGION_WRITE, request).count, data.length);
  }

  async dmaMap(map: DmaMapOptions): Promise<void> {
    const flags =
      ((map.readable ?? true) ? VFIO_USER_F_DMA_REGION_READ : 0) |
      ((map.writable ?? true) ? VFIO_USER_F_DMA_REGION_WRITE : 0);
    const { address, size, fileOffset: offset = 0 } = map;
    const fds = map.fd === undefined ? [] : [map.fd];
    await this.#requester.request(Messages.DMA_MAP, { flags, offset, address, size }, fds);
  }

  /** The server uses the memory no more when this resolves. */
  async dmaUnmap(address: number, size: number): Promise<void> {
    const range = { address: BigInt(address), size: BigInt(size) };
    await this.#ask(Messages.DMA_UNMAP, { argsz: 24, flags: 0, ...range });
  }

  async dmaUnmapAll(): Promise<void> {
    const flags = VFIO_DMA_UNMAP_FLAG_ALL;
    await this.#ask(Messages.DMA_UNMAP, { argsz: 24, flags, address: 0n, size: 0n });
  }

  async reset(): Promise<void> {
    await this.#requester.request(Messages.DEVICE_RESET, undefined);
  }

  resetSync(): void {
    this.requestSync(Messages.DEVICE_RESET, undefined);
  }

  /** DEVICE_FEATURE. @returns the data of the reply */
  async deviceFeature(flags: number, data = new Uint8Array(0), argsz = 4096): Promise<Uint8Array> {
    return (await this.#ask(Messages.DEVICE_FEATURE, { argsz, flags, data })).data;
  }

  /** Closes the connection; outstanding requests are rejected with ENOTCONN. Idempotent. */
  close(): void {
    this.#link.close('CLOSED', 'closed by the client');
  }

  async #ask<Q, R>(descriptor: MessageDescriptor<Q, R>, value: Q): Promise<R> {
    return (await this.#requester.request(descriptor, value)).reply;
  }

  /** Repeats a request with the argsz that the reply asks for. */
  async #askGrowing<R extends { readonly argsz: number }>(
    minimum: number,
    ask: (argsz: number) => Promise<Answer<R>>,
  ): Promise<Answer<R>> {
    const first = await ask(minimum);
    if (first.reply.argsz <= minimum) return first;
    this.#closeFds(first.fds);
    if (first.reply.argsz > MAX_ARGSZ) {
      throw new VfioUserError('EPROTO', `server asks for an argsz of ${first.reply.argsz}`);
    }
    const second = await ask(first.reply.argsz);
    if (second.reply.argsz <= first.reply.argsz) return second;
    this.#closeFds(second.fds);
    throw new VfioUserError('EPROTO', 'server asks for ever larger replies');
  }

  #exchange(
    request: (bytes: Uint8Array, timeoutMs: number) => Uint8Array,
    bytes: Uint8Array,
    id: number,
  ): Uint8Array {
    let answer: Uint8Array;
    try {
      answer = request(bytes, this.#timeoutMs);
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : '';
      if (code !== 'TIMEOUT' && code !== 'ETIMEDOUT')
        throw new VfioUserError('ENOTCONN', `request failed: ${messageOf(error)}`);
      this.#requester.abandon(id);
      throw new VfioUserError('ETIMEDOUT', `no reply within ${this.#timeoutMs} ms`);
    }
    if (answer.length >= VFIO_USER_HEADER_SIZE) return answer;
    throw new VfioUserError('EPROTO', `reply of ${answer.length} bytes`);
  }

  #multiEntries(writes: readonly RegionWrite[]): RegionData[] {
    if (!this.#features.writeMultiple) {
      throw new VfioUserError('ENOTSUP', 'write_multiple was not negotiated');
    }
    return writes.map(({ region, offset, data }) => {
      if (data.length < 1 || data.length > 8) {
        throw new VfioUserError('EINVAL', `multiple write entry of ${data.length} bytes`);
      }
      return { offset, region, count: data.length, data };
    });
  }

  #checkCount(count: number): void {
    if (!Number.isInteger(count) || count < 1 || count > this.#features.maxDataXferSize) {
      throw new VfioUserError('EINVAL', `region access of ${count} bytes`);
    }
  }

  #message(message: RawMessage): void {
    if (!isReply(message.header)) this.#commands.handle(message);
    else if (!this.#requester.settle(message)) this.#log.warn?.('a reply that nobody waits for');
  }

  #closed(reason: string, detail: string): void {
    this.#requester.end(new VfioUserError('ENOTCONN', `connection closed: ${reason}`));
    this.#commands.dispose();
    this.options.onClosed?.(reason, detail);
  }

  #closeFds(fds: readonly number[]): void {
    for (const fd of fds) this.#link.closeFd(fd);
  }
}

/** A reply of another length than asked for is a broken server, not a short read. */
function readResult(reply: RegionData, count: number): Uint8Array {
  if (reply.count !== count) {
    throw new VfioUserError('EPROTO', `region read of ${count} bytes gave ${reply.count}`);
  }
  return reply.data;
}

function checkWritten(done: number, asked: number): void {
  if (done !== asked) throw new VfioUserError('EPROTO', `write of ${asked} did ${done}`);
}
