// ioctl() as VFIO and iommufd use it: everything is in a structure that begins with its size.
#pragma once

#include <sys/ioctl.h>

#include <cerrno>

#include "errors.h"

namespace vvu {

/** Returns the call's value. Throws the errno. */
template <typename Argument>
int Ioctl(int fd, unsigned long request, Argument argument, const char* name) {
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  if (result < 0) throw ErrnoFailure(errno, name);
  return result;
}

}  // namespace vvu
