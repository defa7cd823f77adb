import { VvuError, errorCode, errorMessage } from '../../errors.js';
import type { GuestMemoryFiles } from '../../device/ports.js';
import type { Native } from '../../native.js';
import { MappedMemory } from '../../virtio/mapped-memory.js';
import type { GuestMemory } from '../../virtio/ports.js';
import type { Cleanup } from '../cleanup.js';
import { FileMappings } from '../file-mappings.js';
import { SharedGuestMemory } from '../shared-memory.js';
import { AccessorMemory } from './accessor-memory.js';
import type { Failures } from './failures.js';
import type { MemoryPort, MemorySegment } from './options.js';

/** The guest's memory, and its files where they may be shared and there are any. */
export interface OpenedMemory {
  readonly memory: GuestMemory;
  readonly files: GuestMemoryFiles | undefined;
}

/** @throws VvuError `BAD_MEMORY` of scope `setup` for a segment that cannot be had */
export function openGuestMemory(
  port: MemoryPort,
  native: Native,
  failures: Failures,
  cleanup: Cleanup,
  share: boolean,
): OpenedMemory {
  if (!('segments' in port)) {
    return { memory: new AccessorMemory(port, failures.guard), files: undefined };
  }
  const memory = new MappedMemory(native);
  const lost = (): void =>
    failures.report(new VvuError('MEMORY_LOST', 'device', "the guest's memory file shrank"));
  const files = new FileMappings(native, lost, share);
  for (const segment of port.segments) addSegment(memory, files, segment, cleanup);
  return { memory, files: share ? new SharedGuestMemory(memory, files) : undefined };
}

function addSegment(
  memory: MappedMemory,
  files: FileMappings,
  segment: MemorySegment,
  cleanup: Cleanup,
): void {
  const { address, length, fd, fileOffset } = segment;
  const sane = [address, fileOffset, address + length, fileOffset + length].every(
    (value) => Number.isSafeInteger(value) && value >= 0,
  );
  const what = `segment of ${length} bytes at ${address}, file offset ${fileOffset}`;
  if (!sane || length <= 0) throw new VvuError('BAD_MEMORY', 'setup', what);
  try {
    const file = files.acquire(fd, fileOffset + length, true);
    cleanup.defer(() => file.release());
    const backing = { memory: file.memory, offset: fileOffset, readable: true, writable: true };
    if (memory.insert(address, length, backing)) return;
  } catch (error) {
    const detail = `${what} (${errorCode(error)}): ${errorMessage(error)}`;
    throw new VvuError('BAD_MEMORY', 'setup', detail, { cause: error });
  }
  throw new VvuError('BAD_MEMORY', 'setup', `${what} overlaps another`);
}
