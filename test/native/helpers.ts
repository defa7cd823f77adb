import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../src/native.js';
import type { Framing, NativeSocket, SocketHandlers } from '../../src/native.js';

/** vfio-user: u16 id, u16 command, u32 size (with the header), u32 flags, u32 errno. */
export const vfioUser: Framing = {
  headerSize: 16,
  lengthOffset: 4,
  lengthIncludesHeader: true,
  maxMessage: 2 << 20,
  maxFds: 8,
};

/** vhost-user: u32 request, u32 flags, u32 size of the payload. */
export const vhostUser: Framing = {
  headerSize: 12,
  lengthOffset: 8,
  lengthIncludesHeader: false,
  maxMessage: 4096,
  maxFds: 8,
};

/** A vfio-user message of `size` bytes: the id, and filler after the header. */
export function vfioMessage(id: number, size = 16, flags = 0): Buffer {
  const message = Buffer.alloc(size, id & 0xff);
  message.fill(0, 0, 16);
  message.writeUInt16LE(id, 0);
  message.writeUInt32LE(size, 4);
  message.writeUInt32LE(flags, 8);
  return message;
}

export interface Received {
  readonly bytes: Buffer;
  readonly fds: number[];
}

/** Handlers that keep everything, and wait for it. */
export class Recorder implements SocketHandlers {
  readonly messages: Received[] = [];
  /** Names of the calls, in order. */
  readonly calls: string[] = [];
  readonly closes: { code: string; detail: string }[] = [];
  onMessage: ((received: Received) => void) | undefined;
  onWritable: (() => void) | undefined;

  message(bytes: Buffer, fds: number[]): void {
    this.calls.push('message');
    this.messages.push({ bytes, fds });
    this.onMessage?.({ bytes, fds });
  }

  writable(): void {
    this.calls.push('writable');
    this.onWritable?.();
  }

  closed(code: string, detail: string): void {
    this.calls.push('closed');
    this.closes.push({ code, detail });
  }

  ids(): number[] {
    return this.messages.map(({ bytes }) => bytes.readUInt16LE(0));
  }

  async count(wanted: number): Promise<void> {
    await until(() => this.messages.length >= wanted);
  }

  async end(): Promise<string> {
    await until(() => this.closes.length > 0);
    return this.closes[0]?.code ?? 'none';
  }
}

/** Polls on the loop; fails after 5 s. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the condition did not come true');
    await sleep(1);
  }
}

/** Some turns of the loop, in which something unwanted could have happened. */
export async function turns(): Promise<void> {
  await sleep(20);
}

/** A started pair: `peer` is raw as far as sending goes, `socket` is under test. */
export interface Pair {
  readonly socket: NativeSocket;
  readonly recorder: Recorder;
  readonly peer: NativeSocket;
}

/** The peer is not started, so it reads nothing. */
export function pair(framing: Framing = vfioUser): Pair {
  const [socket, peer] = native.socketPair();
  const recorder = new Recorder();
  socket.start(framing, recorder);
  return { socket, recorder, peer };
}

export function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

/** The file behind an fd of this process, by which duplicates are recognised. */
export function inode(fd: number): bigint {
  return native.fdInfo(fd).ino;
}

export function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'vvu-native-'));
}

/** The code of what `body` throws. */
export function codeOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof Error && 'code' in error) return String(error.code);
    return `not coded: ${String(error)}`;
  }
  return 'did not throw';
}
