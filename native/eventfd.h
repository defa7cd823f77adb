// Eventfds that other processes hold too: whatever they do to them, nothing here blocks.
#pragma once

#include <cstdint>

#include "fd_util.h"

namespace vvu {

UniqueFd CreateEventFd();

/** Makes the eventfd non-blocking. Throws BAD_FD_TYPE for anything else, or the errno. */
void CheckEventFd(int fd);

/** A checked duplicate of the eventfd. Throws as `CheckEventFd`. */
UniqueFd DupEventFd(int fd);

/** Adds 1. Returns 0 (also for a full counter, which is signalled as it is), or the errno. */
int SignalEventFd(int fd);

/** Takes the counter into `count`, 0 when not signalled. Returns 0 or the errno. */
int ReadEventFd(int fd, uint64_t* count);

}  // namespace vvu
