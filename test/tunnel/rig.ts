import { FrontendSession, type SessionOptions } from '../../src/tunnel/index.js';
import { FakeBackend, FakeSocket, FdAccount, recordingLogger, type LogLine } from './fakes.js';

/* Message numbers and flags as the specification has them, independent of the constants. */
export const GET_FEATURES = 1;
export const SET_FEATURES = 2;
export const SET_OWNER = 3;
export const RESET_OWNER = 4;
export const SET_MEM_TABLE = 5;
export const SET_LOG_BASE = 6;
export const SET_LOG_FD = 7;
export const SET_VRING_NUM = 8;
export const SET_VRING_ADDR = 9;
export const SET_VRING_BASE = 10;
export const GET_VRING_BASE = 11;
export const SET_VRING_KICK = 12;
export const SET_VRING_CALL = 13;
export const SET_VRING_ERR = 14;
export const GET_PROTOCOL_FEATURES = 15;
export const SET_PROTOCOL_FEATURES = 16;
export const GET_QUEUE_NUM = 17;
export const SET_VRING_ENABLE = 18;
export const GET_INFLIGHT_FD = 31;
export const SET_INFLIGHT_FD = 32;
export const SET_BACKEND_REQ_FD = 21;
export const IOTLB_MSG = 22;
export const VRING_KICK = 35;
export const GET_MAX_MEM_SLOTS = 36;
export const ADD_MEM_REG = 37;
export const REM_MEM_REG = 38;
export const SET_STATUS = 39;
export const GET_STATUS = 40;
export const GET_SHMEM_CONFIG = 44;

/* Requests of the back-end. */
export const BACKEND_IOTLB_MSG = 1;
export const CONFIG_CHANGE_MSG = 2;
export const VRING_HOST_NOTIFIER_MSG = 3;
export const VRING_CALL = 4;
export const VRING_ERR = 5;
export const SHARED_OBJECT_LOOKUP = 8;
export const SHMEM_MAP = 9;
export const SHMEM_UNMAP = 10;

export const VERSION = 1;
export const REPLY = 4;
export const NEED_REPLY = 8;

function u32(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes.toString('hex');
}

/** A little-endian u64 as hexadecimal. */
export function u64(value: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes.toString('hex');
}

/** A little-endian message as hexadecimal. */
export function message(request: number, payload = '', flags = 0): string {
  const bytes = payload.replaceAll(' ', '');
  return u32(request) + u32(VERSION | flags) + u32(bytes.length / 2) + bytes;
}

/** A vring state, index and num. */
export function state(index: number, num: number): string {
  return u32(index) + u32(num);
}

/** A memory region: guest address, size, user address, mmap offset. */
export function region(guest: bigint, size: bigint, user: bigint, offset = 0n): string {
  return u64(guest) + u64(size) + u64(user) + u64(offset);
}

/** A memory table of these regions. */
export function table(...regions: readonly string[]): string {
  return u32(regions.length) + u32(0) + regions.join('');
}

/** An inflight description, padded as the C structure is. */
export function inflight(size: bigint, offset: bigint, queues: number, queueSize: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(queues, 0);
  bytes.writeUInt16LE(queueSize, 2);
  return u64(size) + u64(offset) + bytes.toString('hex');
}

/** An IOTLB message: iova, size, user address, permissions, type, 6 bytes of padding. */
export function iotlb(iova: bigint, size: bigint, user: bigint, type: number): string {
  return u64(iova) + u64(size) + u64(user) + u32(3 | (type << 8)) + '00000000';
}

/** Ring addresses: flags 0, and no log. */
export function addresses(index: number, desc: bigint, used: bigint, avail: bigint): string {
  return u32(index) + u32(0) + u64(desc) + u64(used) + u64(avail) + u64(0n);
}

/** Everything that a guest of today may offer, including what a tunnel cannot do. */
export const ALL_FEATURES = 0xff_7fff_ffffn;
export const ALL_PROTOCOL_FEATURES = 0x7f_ffffn;
/**
/**
 * MQ, LOG_SHMFD, RARP, REPLY_ACK, MTU, BACKEND_REQ, CROSS_ENDIAN, CRYPTO, CONFIG, INFLIGHT_SHMFD,
 * RESET, INBAND, MEM_SLOTS, STATUS, GET_VRING_BASE_INFLIGHT.
 */
export const TUNNELLED_PROTOCOL_FEATURES = 0x11_f2ffn;
/** With the guest's memory shared (SHMEM). */
export const SHARING_PROTOCOL_FEATURES = 0x51_f2ffn;

/** A session between a fake frontend and a fake guest. */
export class Rig {
  readonly fds = new FdAccount();
  readonly socket = new FakeSocket();
  readonly backend = new FakeBackend(this.fds);
  readonly log: LogLine[] = [];
  readonly session: FrontendSession;

  constructor(options: Partial<SessionOptions> = {}, maxVhostQueues = 8) {
    this.backend.maxVhostQueues = maxVhostQueues;
    this.session = new FrontendSession({
      socket: this.socket,
      backend: this.backend,
      native: this.fds,
      log: recordingLogger(this.log),
      order: 'LE',
      ...options,
    });
    this.session.start();
  }

  /** The frontend sends a message with so many fds. */
  frontend(hex: string, fdCount = 0): void {
    this.socket.handlers?.message(Buffer.from(hex, 'hex'), this.fds.make(fdCount));
  }

  /** The frontend opens the back-end channel, and the guest agrees. @returns the device's end */
  openChannel(): FakeSocket {
    this.frontend(message(SET_BACKEND_REQ_FD, '', NEED_REPLY), 1);
    this.guest(message(SET_BACKEND_REQ_FD, u64(0n), REPLY));
    this.forget();
    return this.channel;
  }

  /** The device's end of the back-end channel that was opened last. */
  get channel(): FakeSocket {
    const channel = this.fds.adopted.at(-1);
    if (channel === undefined) {
      throw new Error('no channel was opened');
    }
    return channel;
  }

  /** The guest puts a message on txq. */
  guest(hex: string): boolean {
    return this.session.fromGuest(Buffer.from(hex, 'hex'));
  }

  /** A request of the frontend, and the guest's reply to it. */
  exchange(request: number, reply: string, payload = ''): void {
    this.frontend(message(request, payload));
    this.guest(message(request, reply, REPLY));
  }

  /** Negotiates; what was sent until then is forgotten. */
  negotiate(accepted = TUNNELLED_PROTOCOL_FEATURES, features = 0x1_4000_0000n): this {
    this.exchange(GET_FEATURES, u64(ALL_FEATURES));
    this.exchange(GET_PROTOCOL_FEATURES, u64(ALL_PROTOCOL_FEATURES));
    this.frontend(message(SET_PROTOCOL_FEATURES, u64(accepted)));
    this.frontend(message(SET_FEATURES, u64(features)));
    return this.forget();
  }

  forget(): this {
    this.socket.sent.length = 0;
    this.backend.guest.length = 0;
    this.backend.calls.length = 0;
    return this;
  }

  /** What the guest received and the frontend received since, and forgets it. */
  traffic(): { guest: string[]; frontend: string[] } {
    const result = { guest: [...this.backend.guest], frontend: [...this.socket.sent] };
    this.forget();
    return result;
  }

  get closedWith(): string | undefined {
    return this.backend.closed?.code;
  }

  /** Ends the session; the fds that are still open then are leaks. */
  leaks(): number {
    this.session.close('end of test');
    return this.fds.open.size;
  }
}

/** Lets promises that are settled run their handlers. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** A promise that stays open until `open` is called. */
export function makeGate(): { readonly closed: Promise<void>; open(): void } {
  let open: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { closed, open: () => open() };
}
