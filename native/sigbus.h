// Keeps the process alive when the file under a mapping shrinks.
//
// A load or store past the end of a mapped file raises SIGBUS, in whatever thread and code did it,
// code compiled by V8 included. The handler maps anonymous memory (zeros) over the rest of the
// region and lets the instruction run again. Faults outside of registered regions go to the handler
// that was there before.
#pragma once

#include <uv.h>

#include <cstddef>

namespace vvu {

/** A region known to the signal handler. */
struct SigbusSlot;

/**
 * Makes [address, address + size) survive; `page` is the page size of its file. When it is
 * poisoned, `notify` is sent, once per fault. Installs the handler on first use; throws the errno
 * if that fails.
 */
SigbusSlot* RegisterSigbusRegion(void* address, size_t size, size_t page, int protection,
                                 uv_async_t* notify);

/** To be called before the region is unmapped, on the thread that accesses it. */
void UnregisterSigbusRegion(SigbusSlot* slot);

/** Whether a fault was repaired, so that a part of the region now reads as zeros. */
bool IsPoisoned(const SigbusSlot* slot);

}  // namespace vvu
