import type { GuestMemoryFiles } from '../device/ports.js';
import { VvuError, errorMessage } from '../errors.js';
import type { SharedMemory } from '../tunnel/index.js';
import type { LocatedMemory, MappedMemory } from '../virtio/mapped-memory.js';
import type { FileMappings } from './file-mappings.js';

const PAGE = 4096n;

function refused(code: string, detail: string): VvuError {
  return new VvuError(code, 'request', detail);
}

/** Hands the files of a guest's memory to a frontend. To be made only where the operator allows it. */
export class SharedGuestMemory implements GuestMemoryFiles {
  constructor(
    private readonly memory: Pick<MappedMemory, 'locate'>,
    private readonly files: Pick<FileMappings, 'dupFdOf'>,
  ) {}

  share(address: bigint, length: bigint, writable: boolean): SharedMemory {
    const what = `${length} bytes of guest memory at 0x${address.toString(16)}`;
    if (length === 0n || address + length > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw refused('BAD_SHMEM', `${what} cannot be shared`);
    }
    const { memory, offset } = this.#locate(what, Number(address), Number(length), writable);
    if (BigInt(offset) % PAGE !== 0n || length % PAGE !== 0n) {
      throw refused('BAD_SHMEM', `${what}, at ${offset} of their file, are not whole pages`);
    }
    const fd = this.files.dupFdOf(memory);
    if (fd === undefined) throw refused('NOT_SHARED', `${what} are in a file that is not kept`);
    return { fd, fileOffset: BigInt(offset) };
  }

  #locate(what: string, address: number, length: number, writable: boolean): LocatedMemory {
    try {
      return this.memory.locate(address, length, writable ? 'writable' : 'readable');
    } catch (error) {
      throw refused('BAD_SHMEM', `${what}: ${errorMessage(error)}`);
    }
  }
}
