// The one thread of the process that passes signals from eventfd to eventfd.
#pragma once

#include <cstdint>

#include "fd_util.h"

namespace vvu {

/**
 * Binds two eventfds: each signal of `source` signals `target`. The first binding of the process
 * starts the thread, whichever instance it comes from. Throws the errno. Returns the binding's
 * name.
 */
uint64_t AddRelay(UniqueFd source, UniqueFd target);

/**
 * Ends a binding. When this returns, no signal of it is under way any more: one that was read from
 * the source has been written to the target, one that was not stays in the source's counter. The
 * last binding's end joins the thread.
 */
void RemoveRelay(uint64_t id);

}  // namespace vvu
