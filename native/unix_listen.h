// Binding of socket files: replaces stale ones, respects live ones, removes only its own.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "fd_util.h"

namespace vvu {

/** A listening socket and the file that belongs to it. */
class ListeningSocket {
 public:
  /**
   * Throws ADDRESS_IN_USE where somebody listens on `path`, EEXIST where it is no socket,
   * ENAMETOOLONG, or the errno.
   */
  static ListeningSocket Open(const std::string& path, mode_t mode, std::optional<gid_t> gid);

  ListeningSocket() = default;
  ListeningSocket(ListeningSocket&&) = default;
  ListeningSocket& operator=(ListeningSocket&&) = default;
  ~ListeningSocket() { Close(); }

  int fd() const { return fd_.get(); }

  /** Unlinks the file, if it still is ours, and closes. Idempotent. */
  void Close();

 private:
  UniqueFd fd_;
  std::string path_;
  dev_t dev_ = 0;
  ino_t ino_ = 0;
};

}  // namespace vvu
