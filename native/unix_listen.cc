#include "unix_listen.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "errors.h"

namespace vvu {
namespace {

constexpr int kBacklog = 128;

UniqueFd NewSocket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) throw ErrnoFailure(errno, "socket");
  return fd;
}

/** Removes a socket file that nobody listens on; throws where something else lies there. */
void MakeRoom(const std::string& path, const sockaddr_un& address) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return;
    throw ErrnoFailure(errno, "lstat " + path);
  }
  if (!S_ISSOCK(info.st_mode)) throw Failure("EEXIST", path + " exists and is no socket");
  const UniqueFd probe = NewSocket();
  const int status =
      connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  // A full backlog, or another type of socket, is somebody's too.
  if (status == 0 || errno == EAGAIN || errno == EPROTOTYPE) {
    throw Failure("ADDRESS_IN_USE", "a server listens on " + path);
  }
  if (errno == ENOENT) return;
  if (errno != ECONNREFUSED) throw ErrnoFailure(errno, "connect to " + path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) throw ErrnoFailure(errno, "unlink " + path);
}

/** Sets group, then mode, of the file that `handle` (O_PATH) stands for. */
void SetAccess(int handle, const std::string& path, mode_t mode, std::optional<gid_t> gid) {
  if (gid && fchownat(handle, "", static_cast<uid_t>(-1), *gid, AT_EMPTY_PATH) != 0) {
    throw ErrnoFailure(errno, "chown " + path);
  }
  char link[32];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", handle);
  if (chmod(link, mode) != 0) throw ErrnoFailure(errno, "chmod " + path);
}

}  // namespace

ListeningSocket ListeningSocket::Open(const std::string& path, mode_t mode,
                                      std::optional<gid_t> gid) {
  const sockaddr_un address = UnixAddress(path);
  MakeRoom(path, address);
  ListeningSocket result;
  result.fd_ = NewSocket();
  const int fd = result.fd_.get();
  // bind() gives the file the mode of the socket: it is never more open than it shall be, and only
  // its owner's until the group is right. Until listen() nobody can connect anyway.
  if (fchmod(fd, gid ? mode & 0700 : mode) != 0) throw ErrnoFailure(errno, "fchmod");
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EADDRINUSE) throw Failure("ADDRESS_IN_USE", "another server took " + path);
    throw ErrnoFailure(errno, "bind " + path);
  }
  const UniqueFd handle(open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info;
  if (!handle.valid() || fstat(handle.get(), &info) != 0) {
    throw ErrnoFailure(errno, "open " + path);
  }
  result.path_ = path;
  result.dev_ = info.st_dev;
  result.ino_ = info.st_ino;
  SetAccess(handle.get(), path, mode, gid);
  if (listen(fd, kBacklog) != 0) throw ErrnoFailure(errno, "listen");
  return result;
}

void ListeningSocket::Close() {
  if (!fd_.valid()) return;
  struct stat info;
  if (!path_.empty() && lstat(path_.c_str(), &info) == 0 && info.st_dev == dev_ &&
      info.st_ino == ino_) {
    unlink(path_.c_str());
  }
  fd_.Reset();
}

}  // namespace vvu
