// The one thread of the process that passes the signals of eventfds on.
#pragma once

#include <cstdint>
#include <memory>

#include "fd_util.h"
#include "relay_target.h"

namespace vvu {

/** What a binding's source is. */
enum class RelaySource {
  kEventFd,
  /**
   * A UIO device, whose reads are a 4-byte count of interrupts. When it ends (the function is
   * gone) the target is signalled once more, and nothing is read any longer.
   */
  kUio,
};

/**
 * Each signal of `source` goes to `target`. The first binding of the process
 * starts the thread, whichever instance it comes from. Throws the errno. Returns the binding's
 * name.
 */
uint64_t AddRelay(UniqueFd source, RelaySource kind, std::unique_ptr<RelayTarget> target);

/**
 * Ends a binding. When this returns, no signal of it is under way any more: one that was read from
 * the source has reached the target, one that was not stays in the source's counter. The
 * last binding's end joins the thread.
 */
void RemoveRelay(uint64_t id);

}  // namespace vvu
