#include "writer.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "errors.h"
#include "framing.h"

namespace vvu {
namespace {

/** Non-blocking sendmsg that never raises SIGPIPE. Returns the bytes sent, or -errno. */
ssize_t SendParts(int socket, iovec* parts, size_t count, const int* fds, size_t fd_count) {
  alignas(cmsghdr) char control[CMSG_SPACE(Framing::kMaxFds * sizeof(int))];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  if (fd_count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
    std::memset(control, 0, message.msg_controllen);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

bool WouldBlock(ssize_t result) { return result == -EAGAIN || result == -EWOULDBLOCK; }

}  // namespace

int OutputQueue::Send(int socket, const uint8_t* data, size_t size, const int* fds,
                      size_t fd_count) {
  size_t sent = 0;
  if (messages_.empty()) {
    iovec part = {const_cast<uint8_t*>(data), size};
    const ssize_t result = SendParts(socket, &part, 1, fds, fd_count);
    if (result == -EBADF) throw ErrnoFailure(EBADF, "sendmsg");
    // EFAULT: bytes that lie in a mapping whose file shrank. Copying them, unlike a system call,
    // goes through the SIGBUS guard.
    if (result < 0 && !WouldBlock(result) && result != -EFAULT) return static_cast<int>(-result);
    if (result > 0) sent = static_cast<size_t>(result);
    if (sent == size) return 0;
  }
  if (queued_ + (size - sent) > kLimit) return ENOBUFS;
  FdList copies;
  if (sent == 0) {
    for (size_t i = 0; i < fd_count; ++i) copies.Add(DupFd(fds[i]).Release());
  }
  Push(data + sent, size - sent, std::move(copies));
  return 0;
}

void OutputQueue::Push(const uint8_t* data, size_t size, FdList fds) {
  Message message{std::unique_ptr<uint8_t[]>(new uint8_t[size]), size, 0, std::move(fds)};
  std::memcpy(message.data.get(), data, size);
  messages_.push_back(std::move(message));
  queued_ += size;
}

int OutputQueue::Flush(int socket) {
  constexpr size_t kParts = 16;
  while (!messages_.empty()) {
    iovec parts[kParts];
    const size_t count = Gather(parts, kParts);
    const FdList& fds = messages_.front().fds;
    const ssize_t result = SendParts(socket, parts, count, fds.data(), fds.size());
    if (WouldBlock(result)) return 0;
    if (result < 0) return static_cast<int>(-result);
    Consume(static_cast<size_t>(result));
  }
  return 0;
}

size_t OutputQueue::Gather(iovec* parts, size_t limit) const {
  size_t count = 0;
  for (const Message& message : messages_) {
    // The kernel ties fds to the first byte of a call, so a message with fds begins one.
    if (count == limit || (count > 0 && !message.fds.empty())) break;
    parts[count++] = {message.data.get() + message.sent, message.size - message.sent};
  }
  return count;
}

void OutputQueue::Consume(size_t sent) {
  queued_ -= sent;
  messages_.front().fds.Close();
  while (sent > 0) {
    Message& front = messages_.front();
    const size_t part = std::min(sent, front.size - front.sent);
    front.sent += part;
    sent -= part;
    if (front.sent == front.size) messages_.pop_front();
  }
}

void OutputQueue::Clear() {
  messages_.clear();
  queued_ = 0;
}

}  // namespace vvu
