import type { Native, NativeMemory } from '../native.js';

/** One mapping of a file, shared by everything that refers to the file. */
export interface FileMapping {
  readonly memory: NativeMemory;
  /** Takes one reference back; the last one unmaps. */
  release(): void;
}

interface Shared {
  readonly memory: NativeMemory;
  references: number;
}

/**
 * One mapping per file. Behind a vIOMMU a client sends thousands of small maps of its RAM, each with
 * an fd of its own for the same file.
 */
export class FileMappings {
  readonly #shared = new Map<string, Shared>();
  readonly #fds = new Map<NativeMemory, number>();

  /** @param keepFds one fd per file stays open, for {@link dupFdOf} */
  constructor(
    private readonly native: Pick<Native, 'fdInfo' | 'map' | 'dupFd' | 'closeFd'>,
    private readonly onPoisoned: () => void,
    private readonly keepFds = false,
  ) {}

  /** Number of files that are mapped. */
  get count(): number {
    return this.#shared.size;
  }

  /** A new fd of the file behind a mapping, the caller's; undefined where fds are not kept. */
  dupFdOf(memory: NativeMemory): number | undefined {
    const fd = this.#fds.get(memory);
    return fd === undefined ? undefined : this.native.dupFd(fd);
  }

  /**
   * The mapping that covers bytes [0, end) of the file. The fd stays the caller's.
   * @throws Error with a code where the fd cannot be mapped or the file ends before `end`
   */
  acquire(fd: number, end: number, writable: boolean): FileMapping {
    const info = this.native.fdInfo(fd);
    if (info.kind !== 'file') throw coded('BAD_FD_TYPE', `fd is a ${info.kind}, not a file`);
    if (writable && !info.writable) throw coded('EACCES', 'fd is read-only');
    if (end > info.size) throw coded('ENXIO', `file of ${info.size} bytes ends before ${end}`);
    const key = `${info.dev}:${info.ino}:${writable}`;
    const found = this.#shared.get(key);
    if (found && found.memory.size >= end && !found.memory.poisoned) {
      return this.#reference(key, found);
    }
    // The file has grown since it was mapped: whoever holds the smaller mapping keeps it.
    const memory: NativeMemory = this.native.map(fd, {
      offset: 0,
      length: info.size,
      writable,
      // Told later than it happened: by then another client may be there.
      onPoisoned: () => {
        if (!memory.released) this.onPoisoned();
      },
    });
    if (this.keepFds) this.#fds.set(memory, this.native.dupFd(fd));
    const shared: Shared = { memory, references: 0 };
    this.#shared.set(key, shared);
    return this.#reference(key, shared);
  }

  #reference(key: string, shared: Shared): FileMapping {
    shared.references++;
    let held = true;
    return {
      memory: shared.memory,
      release: () => {
        if (!held) return;
        held = false;
        if (--shared.references > 0) return;
        if (this.#shared.get(key) === shared) this.#shared.delete(key);
        shared.memory.release();
        this.#closeFd(shared.memory);
      },
    };
  }

  #closeFd(memory: NativeMemory): void {
    const fd = this.#fds.get(memory);
    this.#fds.delete(memory);
    if (fd !== undefined) this.native.closeFd(fd);
  }
}

function coded(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
