#include "fd_util.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "errors.h"

namespace vvu {

void UniqueFd::Reset(int fd) {
  // Linux frees the number even when close() reports EINTR, so there is nothing to retry.
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

void FdList::Close() {
  for (int fd : fds_) close(fd);
  fds_.clear();
}

UniqueFd DupFd(int fd) {
  // From 3 up: a process that was started without stdio must not get a guest's file as stderr.
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw ErrnoFailure(errno, "dup");
  return UniqueFd(copy);
}

bool IsEventFd(int fd) {
  char link[32];
  char target[32];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, target, sizeof(target));
  constexpr char kEventFd[] = "anon_inode:[eventfd]";
  return length == sizeof(kEventFd) - 1 && std::memcmp(target, kEventFd, length) == 0;
}

void SetNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) throw ErrnoFailure(errno, "fcntl");
  if ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
    throw ErrnoFailure(errno, "fcntl");
  }
}

sockaddr_un UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty()) throw Failure("ENOENT", "the socket path is empty");
  if (path.size() >= sizeof(address.sun_path)) {
    throw Failure("ENAMETOOLONG",
                  "the socket path has " + std::to_string(path.size()) + " bytes, at most " +
                      std::to_string(sizeof(address.sun_path) - 1) + " are possible: " + path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace vvu
