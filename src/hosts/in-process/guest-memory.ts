import { VvuError, errorCode, errorMessage } from '../../errors.js';
import type { Native } from '../../native.js';
import { MappedMemory } from '../../virtio/mapped-memory.js';
import type { GuestMemory } from '../../virtio/ports.js';
import type { Cleanup } from '../cleanup.js';
import { FileMappings } from '../file-mappings.js';
import { AccessorMemory } from './accessor-memory.js';
import type { Failures } from './failures.js';
import type { MemoryPort, MemorySegment } from './options.js';

/** @throws VvuError `BAD_MEMORY` of scope `setup` for a segment that cannot be had */
export function openGuestMemory(
  port: MemoryPort,
  native: Native,
  failures: Failures,
  cleanup: Cleanup,
): GuestMemory {
  if (!('segments' in port)) return new AccessorMemory(port, failures.guard);
  const memory = new MappedMemory(native);
  const files = new FileMappings(native, () =>
    failures.report(new VvuError('MEMORY_LOST', 'device', "the guest's memory file shrank")),
  );
  for (const segment of port.segments) addSegment(memory, files, segment, cleanup);
  return memory;
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
