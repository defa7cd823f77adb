// Adds to the counter of an eventfd without any possibility of blocking.
#pragma once

namespace vvu {

/**
 * Sets up what this thread needs, so that its fds and mappings are the same before and after its
 * first signal. Not needed for `PostEventFd` to work.
 */
void PrepareEventFdSignals();

/** Adds 1, saturating. Returns 0, the errno, or ENOSYS where the kernel has no way to do it. */
int PostEventFd(int fd);

}  // namespace vvu
