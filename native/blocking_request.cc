// The blocking round trip of a connection, see `request` in src/native.ts.
#include <poll.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "connection.h"
#include "errors.h"

namespace vvu {
namespace {

// vfio-user's header, as far as a reply is told from other messages by it.
constexpr size_t kFlagsOffset = 8;
constexpr uint32_t kTypeMask = 0xf;
constexpr uint32_t kTypeReply = 1;

int64_t NowMs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

uint16_t IdOf(const uint8_t* message) {
  uint16_t id;
  std::memcpy(&id, message, sizeof(id));
  return id;
}

bool IsReplyTo(const Frame& frame, uint16_t id) {
  uint32_t flags;
  std::memcpy(&flags, frame.data.get() + kFlagsOffset, sizeof(flags));
  return IdOf(frame.data.get()) == id && (flags & kTypeMask) == kTypeReply;
}

}  // namespace

Frame Connection::Request(const uint8_t* data, size_t size, int timeout_ms) {
  constexpr size_t kNeeded = kFlagsOffset + sizeof(uint32_t);
  if (observer_ == nullptr && !ended_) throw Failure("EINVAL", "request before start");
  if (size < kNeeded) throw Failure("OUT_OF_RANGE", "a request has a whole header");
  if (!ended_ && reader_.framing().header_size < kNeeded) {
    throw Failure("EINVAL", "the framing has no vfio-user header");
  }
  if (ended_) throw Failure(closed_here_ ? "RELEASED" : reason_.code, reason_.detail);
  const int64_t deadline = NowMs() + timeout_ms;
  if (write_error_ == 0) AfterOutput(output_.Send(socket_.get(), data, size, nullptr, 0));
  Frame reply;
  const ReadStatus status = AwaitReply(IdOf(data), deadline, &reply);
  if (!stash_.empty() || ended_ || wants_writable_) ScheduleTurn();
  UpdatePoll();
  if (status == ReadStatus::kEnd) throw Failure(reason_.code, reason_.detail);
  if (status == ReadStatus::kWouldBlock) {
    throw Failure("TIMEOUT", "no reply within " + std::to_string(timeout_ms) + " ms");
  }
  return reply;
}

/** kFrame with the reply, kEnd when the connection ended, kWouldBlock at the deadline. */
ReadStatus Connection::AwaitReply(uint16_t id, int64_t deadline, Frame* reply) {
  while (!ended_) {
    // Reading goes on while our own output is stuck: two sides that only write would wait for ever.
    pollfd entry = {socket_.get(), POLLIN, 0};
    if (!output_.empty()) entry.events |= POLLOUT;
    const int64_t left = deadline - NowMs();
    const int ready = poll(&entry, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready == 0) return ReadStatus::kWouldBlock;
    if (ready < 0 && errno != EINTR) throw ErrnoFailure(errno, "poll");
    FlushOutput();
    EndReason reason;
    ReadStatus status = ReadStatus::kFrame;
    while (!ended_ && status == ReadStatus::kFrame) {
      status = reader_.Read(socket_.get(), reply, &reason);
      if (status != ReadStatus::kFrame) break;
      if (IsReplyTo(*reply, id)) return status;
      Stash(std::move(*reply));
      if (NowMs() >= deadline) return ReadStatus::kWouldBlock;
    }
    if (status == ReadStatus::kEnd) End(std::move(reason));
    if (status == ReadStatus::kWouldBlock) EndIfUnwritable();
  }
  return ReadStatus::kEnd;
}

void Connection::Stash(Frame frame) {
  if (stash_.size() >= kStashMessages || stash_bytes_ + frame.size > kStashBytes) {
    End({"ENOBUFS", "the peer sent too much while a request waited for its reply"});
    return;
  }
  stash_bytes_ += frame.size;
  stash_.push_back(std::move(frame));
}

}  // namespace vvu
