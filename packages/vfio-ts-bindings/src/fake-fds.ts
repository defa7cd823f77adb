/**
 * File descriptors that are only numbers, with the bookkeeping of a kernel: what is open, what each
 * one refers to, and every wrong close. A test ends with `openCount` 0 and no `errors`.
 */
export class FakeFds {
  readonly #files = new Map<number, FakeFile>();
  readonly #errors: string[] = [];
  #nextFd = 100;
  #opened = 0;
  #closed = 0;

  /** A new fd of a new file. */
  open(label = 'file'): number {
    return this.#add({ label, signals: 0 });
  }

  /** Another fd of the same file, as SCM_RIGHTS makes one. */
  dup(fd: number): number {
    return this.#add(this.#file(fd) ?? { label: `bad fd ${fd}`, signals: 0 });
  }

  /** Closing what is not open is remembered in {@link errors}, not thrown. */
  close(fd: number): void {
    if (this.#files.delete(fd)) this.#closed += 1;
    else this.#errors.push(`close of fd ${fd}, which is not open`);
  }

  /** Plays a write to an eventfd: counted for all fds of the file. */
  signal(fd: number): void {
    const file = this.#file(fd);
    if (file !== undefined) file.signals += 1;
  }

  signals(fd: number): number {
    return this.#file(fd)?.signals ?? 0;
  }

  /** The label that the file was opened with, or undefined for an fd that is not open. */
  label(fd: number): string | undefined {
    return this.#files.get(fd)?.label;
  }

  get openCount(): number {
    return this.#files.size;
  }

  /** How many fds were opened or duplicated, and how many closed, ever. */
  get opened(): number {
    return this.#opened;
  }

  get closed(): number {
    return this.#closed;
  }

  get errors(): readonly string[] {
    return this.#errors;
  }

  #add(file: FakeFile): number {
    const fd = this.#nextFd;
    this.#nextFd += 1;
    this.#opened += 1;
    this.#files.set(fd, file);
    return fd;
  }

  #file(fd: number): FakeFile | undefined {
    const file = this.#files.get(fd);
    if (file === undefined) this.#errors.push(`use of fd ${fd}, which is not open`);
    return file;
  }
}

interface FakeFile {
  readonly label: string;
  signals: number;
}
