// Cuts a byte stream with fds into messages, reading never further than the message at hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "fd_util.h"

namespace vvu {

/** See `Framing` in src/native.ts. */
struct Framing {
  static constexpr size_t kMinHeader = 8;
  static constexpr size_t kMaxHeader = 64;
  /** SCM_MAX_FD of the kernel. */
  static constexpr size_t kMaxFds = 253;
  /** A frame is one allocation, so its length has an end even if the caller names none. */
  static constexpr size_t kMaxMessage = size_t{1} << 30;

  size_t header_size = 0;
  size_t length_offset = 0;
  bool length_includes_header = false;
  size_t max_message = 0;
  size_t max_fds = 0;
};

/** One whole message and the fds that came with it. */
struct Frame {
  std::unique_ptr<uint8_t[]> data;
  size_t size = 0;
  FdList fds;
};

/** Why a connection ended: `SocketCloseCode` in src/native.ts, and a line for logs. */
struct EndReason {
  std::string code;
  std::string detail;
};

enum class ReadStatus { kFrame, kWouldBlock, kEnd };

/**
 * Reads exactly the header, then exactly the payload. A longer read could merge two messages, and
 * the kernel would then hand the fds of the second to the first.
 */
class FrameReader {
 public:
  void Start(const Framing& framing) { framing_ = framing; }
  const Framing& framing() const { return framing_; }

  /** Goes on with the current message as far as the socket has bytes; never blocks. */
  ReadStatus Read(int fd, Frame* frame, EndReason* reason);

  /** Whether a message has begun and is not whole yet. */
  bool mid_message() const { return have_ > 0; }

  /** Drops a message that has begun, closing its fds. */
  void Reset();

 private:
  bool ReceiveSome(int fd, uint8_t* target, size_t size, ReadStatus* status, EndReason* reason);
  bool TakeControl(const msghdr& message, EndReason* reason);
  bool BeginPayload(EndReason* reason);

  Framing framing_;
  uint8_t header_[Framing::kMaxHeader];
  /** Bytes of the current message received so far, header included. */
  size_t have_ = 0;
  Frame frame_;
};

}  // namespace vvu
