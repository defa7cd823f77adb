#include "connection.h"

#include <cerrno>

#include "errors.h"

namespace vvu {

std::shared_ptr<Connection> Connection::Create(Instance& instance, UniqueFd socket) {
  auto connection = std::make_shared<Connection>(instance);
  connection->socket_ = std::move(socket);
  const int fd = connection->socket_.get();
  socklen_t length = sizeof(connection->peer_);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &connection->peer_, &length) != 0) {
    throw ErrnoFailure(errno, "getsockopt");
  }
  Connection* raw = connection.get();
  const int status = connection->poll_.Open(
      instance, [raw](int poll_status, int events) { raw->OnPoll(poll_status, events); },
      [fd](uv_loop_t* loop, uv_poll_t* handle) { return uv_poll_init(loop, handle, fd); });
  if (status != 0) throw ErrnoFailure(-status, "uv_poll_init");
  return connection;
}

Connection::Connection(Instance& instance) : instance_(instance.shared_from_this()) {
  instance_->Add(this);
}

Connection::~Connection() { Shutdown(); }

void Connection::Start(const Framing& framing, ConnectionObserver* observer) {
  if (observer_ != nullptr) throw Failure("EINVAL", "start was called before");
  reader_.Start(framing);
  observer_ = observer;
  if (ended_) ScheduleTurn();
  UpdatePoll();
}

bool Connection::Send(const uint8_t* data, size_t size, const int* fds, size_t fd_count) {
  if (ended_ || write_error_ != 0) return true;
  AfterOutput(output_.Send(socket_.get(), data, size, fds, fd_count));
  UpdatePoll();
  if (output_.queued() <= OutputQueue::kHighWater) return true;
  wants_writable_ = true;
  return false;
}

void Connection::Pause() {
  paused_ = true;
  UpdatePoll();
}

void Connection::Resume() {
  if (!paused_) return;
  paused_ = false;
  hangup_seen_ = false;
  if (!stash_.empty() || ended_) ScheduleTurn();
  UpdatePoll();
}

void Connection::WatchHangup(HangupObserver* observer) {
  hangup_observer_ = observer;
  UpdatePoll();
}

void Connection::Close() {
  closed_here_ = true;
  hangup_observer_ = nullptr;
  DropStash();
  if (ended_) reason_ = {"CLOSED", "closed here"};
  End({"CLOSED", "closed here"});
  ScheduleTurn();
}

void Connection::Abandon() {
  observer_ = nullptr;
  Shutdown();
}

void Connection::Shutdown() noexcept {
  instance_->Remove(this);
  ended_ = true;
  observer_ = nullptr;
  hangup_observer_ = nullptr;
  DropStash();
  fast_.reset();
  CloseSocket();
}

void Connection::OnPoll(int status, int events) {
  const auto self = shared_from_this();
  // libuv reports EPOLLERR, which is how a reset arrives, as an error and stops polling. The system
  // calls below find out what happened.
  if (status < 0) {
    polled_events_ = 0;
    events = UV_READABLE | UV_WRITABLE | UV_DISCONNECT;
  }
  if ((events & UV_WRITABLE) != 0) FlushOutput();
  if (Unread() && (events & UV_DISCONNECT) != 0) {
    if (observer_ != nullptr) FindEndWhilePaused();
    TellHangup();
  }
  Turn();
}

/** Delivers some messages, and what became of the connection meanwhile. */
void Connection::Turn() {
  const auto self = shared_from_this();
  if (wants_writable_ && !ended_ && output_.queued() <= OutputQueue::kLowWater) {
    wants_writable_ = false;
    if (observer_ != nullptr) observer_->OnWritable();
  }
  size_t bytes = 0;
  for (int count = 0; count < kMessagesPerTurn && bytes < kBytesPerTurn && MayDeliver(); ++count) {
    Frame frame;
    if (!NextFrame(&frame)) break;
    bytes += frame.size;
    if (fast_ != nullptr && ServeFast(frame)) {
      bytes += fast_reply_.size();
      continue;
    }
    if (!observer_->OnMessage(std::move(frame))) break;
  }
  FinishTurn();
}

/** The next message from the stash or the socket; false when there is none now. */
bool Connection::NextFrame(Frame* frame) {
  if (!stash_.empty()) {
    *frame = std::move(stash_.front());
    stash_.pop_front();
    stash_bytes_ -= frame->size;
    return true;
  }
  if (ended_) return false;
  EndReason reason;
  const ReadStatus status = reader_.Read(socket_.get(), frame, &reason);
  if (status == ReadStatus::kEnd) End(std::move(reason));
  if (status == ReadStatus::kWouldBlock) EndIfUnwritable();
  return status == ReadStatus::kFrame;
}

bool Connection::ServeFast(const Frame& frame) {
  const Framing& framing = reader_.framing();
  if (framing.header_size != 16 || !framing.length_includes_header) return false;
  if (!fast_->Serve(frame, framing.max_message, &fast_reply_)) return false;
  if (fast_reply_.empty() || ended_ || write_error_ != 0) return true;
  AfterOutput(output_.Send(socket_.get(), fast_reply_.data(), fast_reply_.size(), nullptr, 0));
  // A client that asks and does not read its answers gets no more of them.
  if (output_.queued() > OutputQueue::kHighWater) stalled_ = true;
  return true;
}

void Connection::FinishTurn() {
  if (observer_ == nullptr || told_) return;
  if (ended_ && (stash_.empty() || closed_here_)) {
    TellClosed();
    return;
  }
  if (MayDeliver() && (ended_ || !stash_.empty())) ScheduleTurn();
  UpdatePoll();
}

void Connection::FlushOutput() {
  if (ended_ || output_.empty()) return;
  AfterOutput(output_.Flush(socket_.get()));
  if (output_.queued() <= OutputQueue::kLowWater) stalled_ = false;
}

void Connection::AfterOutput(int error) {
  if (error == 0) return;
  output_.Clear();
  stalled_ = false;
  if (error == EPIPE || error == ECONNRESET || error == ENOTCONN) {
    // The peer may have said something before it went: reading finds that, then the end.
    write_error_ = error;
    if (paused_) {
      FindEndWhilePaused();
    } else {
      ScheduleTurn();
    }
    return;
  }
  End({ErrnoName(error), ErrnoText(error, "sendmsg")});
  ScheduleTurn();
}

/** While paused, tells an end with no messages before it; with some, it has to wait for them. */
void Connection::FindEndWhilePaused() {
  if (ended_) return;
  hangup_seen_ = true;
  if (!stash_.empty()) return;
  char byte;
  const ssize_t peeked = recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (peeked > 0) return;
  if (peeked == 0) {
    End(reader_.mid_message() ? EndReason{"EOF_MID_MESSAGE", "the peer closed inside a message"}
                              : EndReason{"EOF", "the peer closed"});
  } else if (errno != EAGAIN && errno != EINTR) {
    End({ErrnoName(errno), ErrnoText(errno, "recv")});
  } else {
    hangup_seen_ = false;
    EndIfUnwritable();
  }
  if (ended_) ScheduleTurn();
}

/** An end that is found is told as such. */
void Connection::TellHangup() {
  if (ended_ || hangup_observer_ == nullptr) return;
  HangupObserver* observer = hangup_observer_;
  hangup_observer_ = nullptr;
  UpdatePoll();
  observer->OnHangup();
}

/** After the last message that could be read: a peer that takes nothing is no peer. */
void Connection::EndIfUnwritable() {
  if (write_error_ != 0) End({ErrnoName(write_error_), ErrnoText(write_error_, "sendmsg")});
}

void Connection::End(EndReason reason) {
  if (ended_) return;
  ended_ = true;
  stalled_ = false;
  reason_ = std::move(reason);
  CloseSocket();
}

void Connection::TellClosed() {
  told_ = true;
  DropStash();
  fast_.reset();
  instance_->Remove(this);
  ConnectionObserver* observer = observer_;
  observer->OnClosed(reason_);
}

void Connection::ScheduleTurn() {
  if (turn_scheduled_ || observer_ == nullptr || told_) return;
  turn_scheduled_ = true;
  instance_->Defer([weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->turn_scheduled_ = false;
      self->Turn();
    }
  });
}

void Connection::UpdatePoll() {
  if (!poll_.open()) return;
  int events = 0;
  if (MayDeliver()) events |= UV_READABLE;
  if (!output_.empty()) events |= UV_WRITABLE;
  if (paused_ && observer_ != nullptr && !hangup_seen_) events |= UV_DISCONNECT;
  if (Unread() && hangup_observer_ != nullptr) events |= UV_DISCONNECT;
  if (events == polled_events_) return;
  polled_events_ = events;
  if (events == 0) {
    uv_poll_stop(poll_.get());
  } else {
    uv_poll_start(poll_.get(), events, PollHandle::Run);
  }
}

void Connection::DropStash() {
  stash_.clear();
  stash_bytes_ = 0;
}

void Connection::CloseSocket() {
  // The handle first: libuv takes the number out of its epoll set while it is still ours.
  poll_.Close();
  socket_.Reset();
  output_.Clear();
  reader_.Reset();
}

}  // namespace vvu
