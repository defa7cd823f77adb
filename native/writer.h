// The output queue of a socket.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

#include "fd_util.h"

namespace vvu {

/**
 * Messages that the kernel has not accepted yet. Whole messages and rests of messages stay in
 * order; the fds of a message travel once, with its first byte.
 */
class OutputQueue {
 public:
  /** `send` reports backpressure above the first, `writable` comes at or below the second. */
  static constexpr size_t kHighWater = size_t{1} << 20;
  static constexpr size_t kLowWater = size_t{256} << 10;
  /** A sender that ignores backpressure loses its connection here. */
  static constexpr size_t kLimit = size_t{64} << 20;

  /**
   * Sends, or queues a copy with duplicated fds. Returns 0, or the errno that ends the connection.
   * Throws EBADF (and what dup fails with) for the caller's mistakes, having sent nothing.
   */
  int Send(int socket, const uint8_t* data, size_t size, const int* fds, size_t fd_count);

  /** Sends what the kernel takes now. Returns 0, or the errno that ends the connection. */
  int Flush(int socket);

  size_t queued() const { return queued_; }
  bool empty() const { return messages_.empty(); }
  void Clear();

 private:
  struct Message {
    std::unique_ptr<uint8_t[]> data;
    size_t size;
    size_t sent;
    FdList fds;
  };

  void Push(const uint8_t* data, size_t size, FdList fds);
  void Consume(size_t sent);
  size_t Gather(iovec* parts, size_t limit) const;

  std::deque<Message> messages_;
  size_t queued_ = 0;
};

}  // namespace vvu
