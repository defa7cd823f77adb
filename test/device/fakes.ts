import type { FdInfo, MapOptions, Native, NativeMemory } from '../../src/native.js';

/** Fds that are only numbers, with an account of who closed what. */
export class FakeFds {
  readonly open = new Map<number, FdInfo>();
  readonly maps: { fd: number; options: MapOptions; released: boolean }[] = [];
  readonly signals: number[] = [];
  #next = 100;

  file(size: number, identity: Partial<FdInfo> = {}): number {
    const fd = this.#next++;
    this.open.set(fd, {
      kind: 'file',
      dev: 1n,
      ino: BigInt(fd),
      size,
      seals: -1,
      blockSize: 4096,
      writable: true,
      ...identity,
    });
    return fd;
  }

  eventfd(): number {
    return this.file(0, { kind: 'eventfd' });
  }

  get mapped(): number {
    return this.maps.filter(({ released }) => !released).length;
  }

  /** The part of the addon that the device uses; everything else fails the test. */
  get native(): Native {
    const known: Partial<Native> = {
      fdInfo: (fd) => this.#info(fd),
      createMemfd: (_name, size) => this.file(size, { seals: 2 }),
      dupFd: (fd) => this.file(0, this.#info(fd)),
      closeFd: (fd) => {
        this.#info(fd);
        this.open.delete(fd);
      },
      checkEventFd: (fd) => {
        if (this.#info(fd).kind !== 'eventfd') throw new Error('not an eventfd');
      },
      signalEventFd: (fd) => this.signals.push(fd),
      map: (fd, options) => this.#map(fd, options),
      fence: () => undefined,
    };
    return known as Native;
  }

  #map(fd: number, options: MapOptions): NativeMemory {
    const info = this.#info(fd);
    if (options.offset % info.blockSize !== 0) throw new Error('unaligned offset');
    const map = { fd, options, released: false };
    this.maps.push(map);
    const memory: Partial<NativeMemory> = {
      size: options.length,
      get released() {
        return map.released;
      },
      release: () => (map.released = true),
    };
    return memory as NativeMemory;
  }

  #info(fd: number): FdInfo {
    const info = this.open.get(fd);
    if (!info) throw new Error(`fd ${fd} is not open`);
    return info;
  }
}
