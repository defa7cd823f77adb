// Ownership of file descriptors, and the small questions one asks about them.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>
#include <utility>
#include <vector>

namespace vvu {

/** Owns one fd and closes it. */
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(other.Release());
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1);

 private:
  int fd_ = -1;
};

/** Owns several fds, closing those that are left. */
class FdList {
 public:
  FdList() = default;
  FdList(FdList&& other) noexcept : fds_(std::move(other.fds_)) { other.fds_.clear(); }
  FdList& operator=(FdList&& other) noexcept {
    std::swap(fds_, other.fds_);
    other.Close();
    return *this;
  }
  ~FdList() { Close(); }

  void Add(int fd) { fds_.push_back(fd); }
  void Close();
  /** Hands the fds over: they are no longer closed here. */
  void Release() { fds_.clear(); }
  bool empty() const { return fds_.empty(); }
  size_t size() const { return fds_.size(); }
  const int* data() const { return fds_.data(); }
  int operator[](size_t index) const { return fds_[index]; }

 private:
  std::vector<int> fds_;
};

/** A CLOEXEC duplicate. Throws the errno. */
UniqueFd DupFd(int fd);

/** Whether /proc says that the fd is an eventfd. */
bool IsEventFd(int fd);

/** Makes the open file description non-blocking. Throws the errno. */
void SetNonBlocking(int fd);

/** The address of a socket file. Throws ENAMETOOLONG when the kernel's 107 bytes don't hold it. */
sockaddr_un UnixAddress(const std::string& path);

}  // namespace vvu
