import type { DmaMapping } from 'vfio-ts-bindings';
import { VfioUserError } from 'vfio-ts-bindings';
import { errorCode } from '../../errors.js';
import type { Native } from '../../native.js';
import { MappedMemory } from '../../virtio/mapped-memory.js';
import type { FileMapping } from '../file-mappings.js';
import { FileMappings } from '../file-mappings.js';
import { SharedGuestMemory } from '../shared-memory.js';

/**
 * The guest's memory as the client describes it with DMA_MAP and DMA_UNMAP. The client's own
 * protocol errors (overlap, alignment, limits) were refused before they come here.
 */
export class DmaMemory {
  readonly memory: MappedMemory;
  /** Where the guest's memory may be shared. */
  readonly shared: SharedGuestMemory | undefined;
  readonly #files: FileMappings;
  readonly #held = new Map<number, FileMapping>();

  constructor(
    private readonly native: Pick<Native, 'fdInfo' | 'map' | 'dupFd' | 'closeFd' | 'fence'>,
    onPoisoned: () => void,
    share = false,
  ) {
    this.memory = new MappedMemory(native);
    this.#files = new FileMappings(native, onPoisoned, share);
    this.shared = share ? new SharedGuestMemory(this.memory, this.#files) : undefined;
  }

  /** Number of maps, and of files that are mapped for them. */
  get counts(): { readonly maps: number; readonly files: number } {
    return { maps: this.memory.size, files: this.#files.count };
  }

  /** Takes ownership of the fd. @throws VfioUserError for an fd that cannot be mapped */
  map(mapping: DmaMapping): void {
    const { address, size, fd, fileOffset, readable, writable } = mapping;
    const file = fd === undefined ? undefined : this.#open(fd, fileOffset + size, writable);
    const backing = { memory: file?.memory, offset: fileOffset, readable, writable };
    if (!this.memory.insert(address, size, backing)) {
      file?.release();
      throw new VfioUserError('EEXIST', `0x${address.toString(16)} is mapped already`);
    }
    if (file) this.#held.set(address, file);
  }

  unmap(address: number): void {
    this.memory.remove(address);
    this.#held.get(address)?.release();
    this.#held.delete(address);
  }

  clear(): void {
    this.memory.clear();
    for (const file of this.#held.values()) file.release();
    this.#held.clear();
  }

  #open(fd: number, end: number, writable: boolean): FileMapping {
    try {
      return this.#files.acquire(fd, end, writable);
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      throw new VfioUserError('EINVAL', `DMA_MAP fd (${errorCode(error)}): ${detail}`);
    } finally {
      this.native.closeFd(fd);
    }
  }
}
