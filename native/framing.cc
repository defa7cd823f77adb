#include "framing.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "errors.h"

namespace vvu {
namespace {

/** Adds every fd of the control messages, so that none is lost whatever follows. */
void CollectFds(const msghdr& message, FdList* fds) {
  msghdr* mutable_message = const_cast<msghdr*>(&message);
  for (cmsghdr* control = CMSG_FIRSTHDR(mutable_message); control != nullptr;
       control = CMSG_NXTHDR(mutable_message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(fd));
      fds->Add(fd);
    }
  }
}

}  // namespace

void FrameReader::Reset() {
  have_ = 0;
  frame_ = Frame();
}

ReadStatus FrameReader::Read(int fd, Frame* frame, EndReason* reason) {
  ReadStatus status;
  while (have_ < framing_.header_size) {
    const size_t left = framing_.header_size - have_;
    if (!ReceiveSome(fd, header_ + have_, left, &status, reason)) return status;
    if (have_ == framing_.header_size && !BeginPayload(reason)) return ReadStatus::kEnd;
  }
  while (have_ < frame_.size) {
    const size_t left = frame_.size - have_;
    if (!ReceiveSome(fd, frame_.data.get() + have_, left, &status, reason)) return status;
  }
  *frame = std::move(frame_);
  Reset();
  return ReadStatus::kFrame;
}

bool FrameReader::ReceiveSome(int fd, uint8_t* target, size_t size, ReadStatus* status,
                              EndReason* reason) {
  // Room for every fd that one message can carry: a truncation then means that our own fd table
  // is full, and too many fds can be told from it.
  alignas(cmsghdr) char control[CMSG_SPACE(Framing::kMaxFds * sizeof(int))];
  iovec part = {target, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t received;
  do {
    received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  *status = ReadStatus::kEnd;
  if (received < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      *status = ReadStatus::kWouldBlock;
    } else {
      *reason = {ErrnoName(errno), ErrnoText(errno, "recvmsg")};
    }
    return false;
  }
  if (received == 0) {
    *reason = mid_message() ? EndReason{"EOF_MID_MESSAGE", "the peer closed inside a message, " +
                                                               std::to_string(have_) +
                                                               " bytes of it had come"}
                            : EndReason{"EOF", "the peer closed"};
    return false;
  }
  if (!TakeControl(message, reason)) return false;
  have_ += static_cast<size_t>(received);
  return true;
}

bool FrameReader::TakeControl(const msghdr& message, EndReason* reason) {
  FdList fds;
  CollectFds(message, &fds);
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    *reason = {"CTRUNC", "the kernel dropped fds of a message, " + std::to_string(fds.size()) +
                             " came (too many open files?)"};
    return false;
  }
  if (fds.empty()) return true;
  if (mid_message()) {
    *reason = {"UNEXPECTED_FDS",
               std::to_string(fds.size()) + " fds came in the middle of a message"};
    return false;
  }
  if (fds.size() > framing_.max_fds) {
    *reason = {"TOO_MANY_FDS", std::to_string(fds.size()) + " fds in a message, at most " +
                                   std::to_string(framing_.max_fds) + " are taken"};
    return false;
  }
  frame_.fds = std::move(fds);
  return true;
}

bool FrameReader::BeginPayload(EndReason* reason) {
  uint32_t length;
  std::memcpy(&length, header_ + framing_.length_offset, sizeof(length));
  const uint64_t total =
      framing_.length_includes_header ? length : uint64_t{length} + framing_.header_size;
  if (total < framing_.header_size || total > framing_.max_message) {
    *reason = {"BAD_LENGTH", "a header announces a message of " + std::to_string(total) +
                                 " bytes, possible are " + std::to_string(framing_.header_size) +
                                 ".." + std::to_string(framing_.max_message)};
    return false;
  }
  frame_.size = static_cast<size_t>(total);
  frame_.data.reset(new uint8_t[frame_.size]);
  std::memcpy(frame_.data.get(), header_, framing_.header_size);
  return true;
}

}  // namespace vvu
