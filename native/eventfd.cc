#include "eventfd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "errors.h"
#include "eventfd_signal.h"

namespace vvu {
namespace {

bool Ready(int fd, short events) {
  pollfd entry = {fd, events, 0};
  return poll(&entry, 1, 0) == 1 && (entry.revents & (events | POLLNVAL)) != 0;
}

}  // namespace

UniqueFd CreateEventFd() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) throw ErrnoFailure(errno, "eventfd");
  return fd;
}

void CheckEventFd(int fd) {
  if (fcntl(fd, F_GETFD) < 0) throw ErrnoFailure(errno, "fcntl");
  if (!IsEventFd(fd)) throw Failure("BAD_FD_TYPE", "the fd is no eventfd");
  SetNonBlocking(fd);
}

UniqueFd DupEventFd(int fd) {
  CheckEventFd(fd);
  return DupFd(fd);
}

int SignalEventFd(int fd) {
  const int error = PostEventFd(fd);
  if (error != ENOSYS) return error;
  // A sandbox without asynchronous I/O. O_NONBLOCK belongs to the open file description, so a peer
  // that shares it can clear it; a write to a counter that it filled would then block. Asking first
  // leaves it a moment to do both, no more.
  if (!Ready(fd, POLLOUT)) return 0;
  const uint64_t one = 1;
  ssize_t written;
  do {
    written = write(fd, &one, sizeof(one));
  } while (written < 0 && errno == EINTR);
  return written < 0 && errno != EAGAIN ? errno : 0;
}

int ReadEventFd(int fd, uint64_t* count) {
  *count = 0;
  iovec part = {count, sizeof(*count)};
  ssize_t taken;
  do {
    // RWF_NOWAIT holds even where a peer has cleared O_NONBLOCK.
    taken = preadv2(fd, &part, 1, -1, RWF_NOWAIT);
  } while (taken < 0 && errno == EINTR);
  if (taken < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)) {
    if (!Ready(fd, POLLIN)) return 0;
    taken = read(fd, count, sizeof(*count));
  }
  if (taken < 0) *count = 0;
  return taken < 0 && errno != EAGAIN ? errno : 0;
}

}  // namespace vvu
