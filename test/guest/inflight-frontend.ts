import { FrontendRam } from '../../src/frontend/ram.js';
import { native, type NativeSocket } from '../../src/native.js';
import { DriverQueue, placeQueue, queueBytes } from '../../src/virtio/split-queue-driver.js';
import { until } from '../support/until.js';

/* Request numbers and payloads by hand from the specification. */
const VERSION = 1;
const RING_SIZE = 8;
const BUFFER = 64;
/** VERSION_1 and PROTOCOL_FEATURES; INFLIGHT_SHMFD. */
const FEATURES = (1n << 32n) | (1n << 30n);
const INFLIGHT_SHMFD = 1n << 12n;

const le = (bytes: 2 | 4 | 8, ...values: (number | bigint)[]): Buffer =>
  Buffer.concat(
    values.map((value) => {
      const buffer = Buffer.alloc(8);
      buffer.writeBigUInt64LE(BigInt(value));
      return buffer.subarray(0, bytes);
    }),
  );

interface Reply {
  readonly payload: Buffer;
  readonly fds: readonly number[];
}

/** A frontend with one ring that keeps its in-flight buffer over any number of connections. */
export class InflightFrontend {
  readonly ram = new FrontendRam(native, 1 << 20);
  readonly queue: DriverQueue<string>;
  /** The memfd of the buffer, and its size as the backend said it. */
  inflight: { readonly fd: number; readonly size: bigint } | undefined;
  private readonly replies: Reply[] = [];
  private socket: NativeSocket | undefined;
  private ended = true;
  private readonly eventfd = native.createEventFd();

  constructor(private readonly path: string) {
    const base = this.ram.allocate(queueBytes(RING_SIZE), 4096);
    this.queue = new DriverQueue(this.ram.memory, placeQueue(0, RING_SIZE, base), 0n);
  }

  get connected(): boolean {
    return !this.ended;
  }

  /** Makes buffers available, whose content nobody looks at. */
  add(...tokens: string[]): void {
    for (const token of tokens) {
      this.queue.add([], [{ iova: this.ram.allocate(BUFFER, BUFFER), length: BUFFER }], token);
    }
    this.queue.publish();
  }

  done(): string[] {
    const tokens: string[] = [];
    for (let used = this.queue.poll(); used; used = this.queue.poll()) tokens.push(used.token);
    return tokens;
  }

  /** Connects and starts the ring, with the buffer of before if there is one. */
  async start(): Promise<void> {
    this.replies.splice(0);
    this.ended = false;
    this.socket = native.connect(this.path);
    this.socket.start(
      {
        ...{ headerSize: 12, lengthOffset: 8, lengthIncludesHeader: false },
        ...{ maxMessage: 4096, maxFds: 8 },
      },
      {
        message: (bytes, fds) => this.replies.push({ payload: bytes.subarray(12), fds }),
        closed: () => (this.ended = true),
      },
    );
    await this.get(1);
    await this.get(15);
    this.set(16, le(8, INFLIGHT_SHMFD));
    this.set(2, le(8, FEATURES));
    if (this.inflight === undefined) await this.askForBuffer();
    const { fd = -1, size = 0n } = this.inflight ?? {};
    this.set(32, Buffer.concat([le(8, size, 0), le(2, 1, RING_SIZE, 0, 0)]), fd);
    const { guestAddress, size: bytes, userAddress, mmapOffset } = this.ram.regions[0]!;
    const region = le(8, guestAddress, bytes, userAddress, mmapOffset);
    this.set(5, Buffer.concat([le(4, 1, 0), region]), this.ram.fd);
    this.set(8, le(4, 0, RING_SIZE));
    // As a frontend that never heard how far the backend had come.
    this.set(10, le(4, 0, 0));
    const { descriptorArea, driverArea, deviceArea } = this.queue.config;
    const places = [descriptorArea, deviceArea, driverArea].map((at) => this.ram.userAddress(at));
    this.set(9, Buffer.concat([le(4, 0, 0), le(8, ...places, 0)]));
    this.set(13, le(8, 0), this.eventfd);
    this.set(12, le(8, 0), this.eventfd);
    this.set(18, le(4, 0, 1));
    // The answer comes when everything before it was handled.
    await this.get(1);
  }

  close(): void {
    this.socket?.close();
    this.ram.close();
    native.closeFd(this.eventfd);
    if (this.inflight) native.closeFd(this.inflight.fd);
  }

  private async askForBuffer(): Promise<void> {
    const { payload, fds } = await this.get(31, Buffer.concat([le(8, 0, 0), le(2, 1, 8, 0, 0)]));
    const [fd] = fds;
    if (fd !== undefined) this.inflight = { fd, size: payload.readBigUInt64LE(0) };
  }

  private set(request: number, payload: Buffer = Buffer.alloc(0), ...fds: number[]): void {
    this.socket?.send(Buffer.concat([le(4, request, VERSION, payload.length), payload]), fds);
  }

  private async get(request: number, payload?: Buffer): Promise<Reply> {
    const count = this.replies.length;
    this.set(request, payload);
    await until(() => this.replies.length > count || this.ended, `the reply to ${request}`);
    const reply = this.replies[count];
    if (reply === undefined) throw new Error(`no reply to ${request}`);
    return reply;
  }
}
