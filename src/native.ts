/**
 * The addon, typed: the only file that imports it (lint enforces that).
 *
 * File descriptors are plain numbers. Each has one owner, named in the comment of the function that
 * takes or returns it. Errors that cross from C++ are `Error`s with a `code`: an errno name, or one
 * of {@link NativeErrorCode}.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export type NativeErrorCode =
  /** Offset or length outside of the region. */
  | 'OUT_OF_RANGE'
  /** The region was released, or the object closed. */
  | 'RELEASED'
  /** The region's file shrank under it: reads give zeros from the fault on. */
  | 'POISONED'
  /** The fd is not of the kind that the call needs (for example no eventfd). */
  | 'BAD_FD_TYPE'
  /** A live server already listens on the path. */
  | 'ADDRESS_IN_USE'
  | 'TIMEOUT';

/** Why a connection ended. `errno` names stand for themselves. */
export type SocketCloseCode =
  /** The peer closed between two messages. */
  | 'EOF'
  /** The peer closed inside a message. */
  | 'EOF_MID_MESSAGE'
  | 'ECONNRESET'
  /** The kernel truncated the fds (MSG_CTRUNC); those that came were closed. */
  | 'CTRUNC'
  /** More fds than `maxFds`; they were closed. */
  | 'TOO_MANY_FDS'
  /** Fds came in the middle of a message; they were closed. */
  | 'UNEXPECTED_FDS'
  /** A limit on queued memory: 64 MiB unsent, or 64 MiB (or 65536 messages) behind a `request`. */
  | 'ENOBUFS'
  /** A header announced a length below the header or above `maxMessage`. */
  | 'BAD_LENGTH'
  /** `close()` was called here. */
  | 'CLOSED'
  | (string & {});

/** How to cut the byte stream into messages: fixed header, u32 length in it (native byte order). */
export interface Framing {
  /** Bytes of the fixed header, 8..64. */
  readonly headerSize: number;
  /** Byte offset of the u32 length field in the header. */
  readonly lengthOffset: number;
  /** Whether the length counts the header too (vfio-user: yes, vhost-user: no). */
  readonly lengthIncludesHeader: boolean;
  /** Longest acceptable message in bytes, header included. */
  readonly maxMessage: number;
  /** Most fds that one message may carry, at most 253. */
  readonly maxFds: number;
}

export interface SocketHandlers {
  /** One whole message with the fds that came with its first byte. The callee owns the fds. */
  message(bytes: Buffer, fds: number[]): void;
  /** The output queue has drained below its low-water mark after `send` returned false. */
  writable?(): void;
  /** Called exactly once, after the last message; also after `close()`. `detail` is for logs. */
  closed(code: SocketCloseCode, detail: string): void;
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** A connected AF_UNIX stream socket on the loop of the thread that made it. */
export interface NativeSocket {
  /** Installs framing and handlers and starts reading. To be called once. */
  start(framing: Framing, handlers: SocketHandlers): void;
  /**
   * Queues one message. The fds stay the caller's: they are duplicated if they cannot be sent at
   * once, and travel exactly once, with the message's first byte. Returns false when more than the
   * high-water mark (1 MiB) is queued: wait for `writable`, which comes at 256 KiB. On a connection
   * that has ended it discards and returns true, since nobody can know of the end before `closed`.
   * @throws `EBADF` for an fd that is not open, `OUT_OF_RANGE` for no bytes or more than 253 fds
   */
  send(bytes: Uint8Array, fds?: readonly number[]): boolean;
  /**
   * Stops reading; what the peer sends stays in the kernel (backpressure). An end of the connection
   * is told all the same, unless messages that came before it are still to be read.
   */
  pause(): void;
  resume(): void;
  /**
   * Calls back once when the peer has closed or will send no more, although messages that came
   * before are unread: before `start`, and while paused. An end that `closed` can tell at once is
   * told there instead. Replaces an earlier callback; `close` forgets it.
   */
  watchHangup(callback: () => void): void;
  /**
   * Sends one vfio-user request and blocks this thread until its reply came, the way a virtual CPU
   * blocks on a device access. Messages that are not the reply (u16 id at offset 0 equal, low
   * nibble of u32 flags at offset 8 equal to 1) are delivered to `message` later, in order. Fds of
   * the reply are closed; a reply that comes after the timeout is a message like any other.
   * @throws `TIMEOUT`, or the reason why the connection ended
   */
  request(bytes: Uint8Array, timeoutMs: number): Buffer;
  /** Serves matching vfio-user region accesses in C++, see {@link NativeFastRegions}. */
  attachFastRegions(regions: NativeFastRegions | null): void;
  readonly peer: PeerCredentials;
  /** Bytes queued and not yet accepted by the kernel. */
  readonly queued: number;
  /** Drops what is queued, closes; `closed` follows with code `CLOSED`. Idempotent. */
  close(): void;
}

export interface ListenOptions {
  /** Permission bits of the socket file, default 0o600. */
  readonly mode?: number;
  /** Numeric group of the socket file. */
  readonly gid?: number;
}

/**
 * A listening AF_UNIX socket; its file is unlinked by `close` and by the end of its worker, as long
 * as it still is the same file. `process.exit()` leaves it behind, stale, for the next `listen`.
 */
export interface NativeListener {
  readonly path: string;
  close(): void;
}

export interface FdInfo {
  readonly kind: 'file' | 'eventfd' | 'socket' | 'pipe' | 'other';
  readonly dev: bigint;
  readonly ino: bigint;
  /** Bytes, for files. */
  readonly size: number;
  /** F_SEAL_* bits, or -1 where the file has no seals. */
  readonly seals: number;
  /** Page size of the file's filesystem: 4096, or the hugepage size on hugetlbfs. */
  readonly blockSize: number;
  readonly writable: boolean;
}

/**
 * A mapping of [fileOffset, fileOffset + size) of a file, shared. All accesses are bounds-checked;
 * offsets and lengths are safe integers. After `release` every access throws `RELEASED`, and the
 * views are detached.
 */
export interface NativeMemory {
  readonly size: number;
  readonly fileOffset: number;
  readonly writable: boolean;
  /** Set when the file shrank under the mapping (SIGBUS): from the fault on it reads as zeros. */
  readonly poisoned: boolean;
  readonly released: boolean;
  /** A copy of `length` bytes. */
  read(offset: number, length: number): Buffer;
  readInto(offset: number, target: Uint8Array): void;
  write(offset: number, bytes: Uint8Array): void;
  /** memmove between two regions (or within one). */
  copyFrom(source: NativeMemory, sourceOffset: number, offset: number, length: number): void;
  fill(offset: number, length: number, value: number): void;
  /**
   * Shared window of at most 64 KiB, detached by `release`. Not ordered: see the loads below.
   * @throws `EACCES` for read-only memory, where a store by JavaScript would end the process
   */
  view(offset: number, length: number): Uint8Array;
  /** Acquire loads and release stores, naturally aligned, native (little-endian) order. */
  loadU16(offset: number): number;
  loadU32(offset: number): number;
  storeU16(offset: number, value: number): void;
  storeU32(offset: number, value: number): void;
  /** Sets bits of a byte in one atomic, sequentially consistent step; returns what it was before. */
  orByte(offset: number, bits: number): number;
  release(): void;
}

/** A binding of the relay thread: each signal of one eventfd is passed on to another. */
export interface NativeRelay {
  /** When this returns, no signal is passed on any more; later ones stay in the source. */
  close(): void;
}

export interface NativeWatch {
  close(): void;
}

/**
 * Ranges of vfio-user regions whose REGION_READ and REGION_WRITE are answered in the socket's C++
 * callback. A message that lies wholly in one range is served there, any other reaches `message`.
 */
export interface NativeFastRegions {
  /**
   * `count` doorbells of `stride` bytes from `offset` of region `region`: a write of any value, of
   * up to `stride` bytes inside one doorbell, signals its eventfd. Replaces an earlier array.
   */
  setDoorbells(region: number, offset: number, stride: number, count: number): void;
  /** Binds doorbell `index` to an eventfd (duplicated; the fd stays the caller's), or none (-1). */
  setDoorbell(index: number, eventfd: number): void;
  /** Number of doorbell writes served so far, per index. */
  doorbellCount(index: number): number;
  /**
   * Shows `length` bytes of `memory` from `memoryOffset` at `offset` of region `region`. A memory
   * that is released falls out of the table.
   * @throws `EEXIST` where another window overlaps
   */
  mapWindow(
    region: number,
    offset: number,
    length: number,
    memory: NativeMemory,
    memoryOffset: number,
  ): void;
  /** Takes away what was mapped at exactly this place, if anything. */
  unmapWindow(region: number, offset: number): void;
  close(): void;
}

export interface MapOptions {
  /** Byte offset in the file, page aligned (of the file's block size). */
  readonly offset: number;
  readonly length: number;
  readonly writable: boolean;
  /** Called once, on the loop, when the mapping is poisoned. */
  readonly onPoisoned?: () => void;
}

export interface VfioInfo {
  /** VFIO_REGION_INFO_FLAG_* or VFIO_IRQ_INFO_*. */
  readonly flags: number;
}

export interface VfioRegionInfo extends VfioInfo {
  readonly size: number;
  /** Where the region starts in the device's fd. */
  readonly offset: number;
}

export interface VfioIrqInfo extends VfioInfo {
  readonly count: number;
}

/**
 * System calls of Linux's VFIO. Fds that are returned are the caller's; errors are the errno's name.
 */
export interface NativeVfio {
  /** Opens a container (/dev/vfio/vfio) and checks the version of its interface. */
  vfioContainer(path: string): number;
  /**
   * Opens a group (/dev/vfio/N), puts it into the container and gives that its IOMMU.
   * @throws `NOT_VIABLE` when a driver of the kernel holds another function of the group
   */
  vfioGroup(container: number, path: string): number;
  /** The fd of the function with this address. */
  vfioGroupDevice(group: number, name: string): number;
  vfioMapDma(container: number, memory: NativeMemory, iova: number): void;
  vfioUnmapDma(container: number, iova: number, size: number): void;
  /** A new address space of an open /dev/iommu; lives as long as that. */
  iommufdAllocate(iommufd: number): number;
  /** Binds an open /dev/vfio/devices/vfioN to the iommufd, and gives it the address space. */
  iommufdAttach(device: number, iommufd: number, ioas: number): void;
  iommufdMap(iommufd: number, ioas: number, memory: NativeMemory, iova: number): void;
  iommufdUnmap(iommufd: number, ioas: number, iova: number, size: number): void;
  vfioDeviceInfo(device: number): {
    readonly flags: number;
    readonly regions: number;
    readonly irqs: number;
  };
  vfioRegionInfo(device: number, index: number): VfioRegionInfo;
  vfioIrqInfo(device: number, index: number): VfioIrqInfo;
  /** One eventfd per vector from `start` on, -1 for none; VFIO keeps references of its own. */
  vfioSetIrqEventFds(
    device: number,
    index: number,
    start: number,
    eventfds: readonly number[],
  ): void;
  vfioDisableIrqs(device: number, index: number): void;
  vfioReset(device: number): void;
  /**
   * A dma-buf of a range of a BAR, whole pages (Linux 6.19). Whether it can be mapped is up to the
   * kernel, too.
   * @throws `ENOTTY` where the kernel has none
   */
  vfioExportRegion(device: number, region: number, offset: number, length: number): number;
}

export interface Native extends NativeVfio {
  /**
   * Listens on `path`. A stale socket file (nobody accepts) is replaced, a live one refused with
   * `ADDRESS_IN_USE`; another kind of file with `EEXIST`. `onConnection` owns the socket it gets.
   */
  listen(
    path: string,
    options: ListenOptions,
    onConnection: (socket: NativeSocket) => void,
  ): NativeListener;
  /** Connects to a listening socket; fails at once with the errno. */
  connect(path: string): NativeSocket;
  /** A connected pair in this process, for tests. */
  socketPair(): [NativeSocket, NativeSocket];
  /**
   * Makes a socket of an fd that came from a peer. It owns the fd from then on; when this throws,
   * the fd stays the caller's. Nothing blocks, whatever flags the peer sets on its duplicates.
   * @throws `BAD_FD_TYPE` for anything but a connected AF_UNIX stream socket
   */
  adoptSocket(fd: number): NativeSocket;
  /** Two connected AF_UNIX stream sockets, to pass one on; the caller owns both fds. */
  createSocketPair(): [number, number];

  /** A memfd sealed against shrinking; the caller owns the fd. */
  createMemfd(name: string, size: number): number;
  /** Opens a file (O_RDWR, or O_RDONLY), making it with `create` bytes if given and absent. */
  openFile(path: string, options: { readonly writable: boolean; readonly create?: number }): number;
  /** Maps the file; the fd stays the caller's and may be closed afterwards. */
  map(fd: number, options: MapOptions): NativeMemory;
  /**
   * Maps a part of a BAR through a VFIO device's fd; `offset` is the region's plus the one in it.
   * Poisoned when the device is gone.
   */
  mapDevice(fd: number, offset: number, length: number): NativeMemory;
  /**
   * Anonymous memory that stays at its physical place: 2 MiB hugepages, or locked pages.
   * @throws `ENOMEM` where the machine has no such memory left
   */
  lockedMemory(size: number, hugepages: boolean): NativeMemory;
  /**
   * The physical address of each 4 KiB page, from /proc/self/pagemap.
   * @throws `EPERM` without CAP_SYS_ADMIN
   */
  physicalPages(memory: NativeMemory): Float64Array;
  fdInfo(fd: number): FdInfo;

  /** A non-blocking eventfd, owned by the caller. */
  createEventFd(): number;
  /** Checks that `fd` is an eventfd (else `BAD_FD_TYPE`) and makes it non-blocking. */
  checkEventFd(fd: number): void;
  /** Adds 1; a full counter counts as signalled. */
  signalEventFd(fd: number): void;
  /** Takes the counter's value, 0 when it was not signalled. */
  readEventFd(fd: number): number;
  /** Calls back with the counter's value at each signal. The fd stays the caller's (duplicated). */
  watchEventFd(fd: number, onSignal: (count: number) => void): NativeWatch;
  /** One relay thread per process: `source` signals `target`. Both are duplicated. */
  relayEventFd(source: number, target: number): NativeRelay;
  /**
   * Each interrupt of `uio`, an open /dev/uioN, signals the eventfd `target`, and so does, once, the
   * function's going away. Both are duplicated.
   * @throws `EPERM` for a file that cannot be waited for
   */
  relayUio(uio: number, target: number): NativeRelay;
  /**
   * Each signal of `source` stores `bytes` (1, 2, 4 or 8, naturally aligned) at `offset` of `fd`: a
   * VFIO device, or a BAR's sysfs resource file. `source` is duplicated, the register mapped.
   */
  relayStore(source: number, fd: number, offset: number, bytes: Uint8Array): NativeRelay;
  createFastRegions(): NativeFastRegions;

  /**
   * Sends one datagram to an AF_UNIX socket; a path that begins with `@` is an abstract name.
   * Never blocks.
   * @throws the errno's name
   */
  sendDatagram(path: string, bytes: Uint8Array): void;

  dupFd(fd: number): number;
  closeFd(fd: number): void;
  /** Sequentially consistent fence, for the store-load order that event suppression needs. */
  fence(): void;
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const load = createRequire(import.meta.url)('node-gyp-build') as (directory: string) => Native;

export const native: Native = load(root);
