// One connected AF_UNIX stream socket on the loop: framing, output queue, flow control, end.
#pragma once

#include <sys/socket.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "fast_regions.h"
#include "framing.h"
#include "instance.h"
#include "loop_handle.h"
#include "writer.h"

namespace vvu {

/** Who is told about a connection. Each call may come back into the connection. */
class ConnectionObserver {
 public:
  /** Takes the frame. False when nobody can be told any more. */
  virtual bool OnMessage(Frame frame) = 0;
  virtual void OnWritable() = 0;
  /** The last call. */
  virtual void OnClosed(const EndReason& reason) = 0;

 protected:
  ~ConnectionObserver() = default;
};

/** Who is told that the peer sends no more, although what it has sent is unread. */
class HangupObserver {
 public:
  virtual void OnHangup() = 0;

 protected:
  ~HangupObserver() = default;
};

class Connection : public Resource, public std::enable_shared_from_this<Connection> {
 public:
  /** Takes a connected, non-blocking socket. */
  static std::shared_ptr<Connection> Create(Instance& instance, UniqueFd socket);

  explicit Connection(Instance& instance);
  ~Connection() override;

  /** Starts reading. The observer must outlive the connection, or `Abandon` it. */
  void Start(const Framing& framing, ConnectionObserver* observer);
  /** False above the high-water mark. On an ended connection, discards and returns true. */
  bool Send(const uint8_t* data, size_t size, const int* fds, size_t fd_count);
  void Pause();
  void Resume();
  /** Tells the observer once, before `Start` or while paused; null for nobody. */
  void WatchHangup(HangupObserver* observer);
  /** Sends and waits for the reply; see `request` in src/native.ts. Throws the reason if none. */
  Frame Request(const uint8_t* data, size_t size, int timeout_ms);
  void AttachFastRegions(std::shared_ptr<FastRegions> regions) { fast_ = std::move(regions); }
  /** Ends the connection from this side. */
  void Close();
  /** The observer goes away: closes and tells nobody. */
  void Abandon();
  void Shutdown() noexcept override;

  size_t queued() const { return output_.queued(); }
  const ucred& peer() const { return peer_; }

 private:
  // One callback's share of the loop: a peer that never stops sending must leave room for others.
  static constexpr int kMessagesPerTurn = 64;
  static constexpr size_t kBytesPerTurn = size_t{1} << 20;
  // What other messages may wait while a request does.
  static constexpr size_t kStashBytes = size_t{64} << 20;
  static constexpr size_t kStashMessages = 65536;

  bool Unread() const { return observer_ == nullptr || paused_; }
  bool MayDeliver() const {
    return observer_ != nullptr && !paused_ && !stalled_ && !closed_here_ && !told_;
  }
  void OnPoll(int status, int events);
  void Turn();
  bool NextFrame(Frame* frame);
  bool ServeFast(const Frame& frame);
  void FinishTurn();
  void FlushOutput();
  void AfterOutput(int error);
  void FindEndWhilePaused();
  void TellHangup();
  void EndIfUnwritable();
  void End(EndReason reason);
  void TellClosed();
  void ScheduleTurn();
  void UpdatePoll();
  void DropStash();
  void CloseSocket();

  ReadStatus AwaitReply(uint16_t id, int64_t deadline, Frame* reply);
  void Stash(Frame frame);

  std::shared_ptr<Instance> instance_;
  UniqueFd socket_;
  ucred peer_{};
  PollHandle poll_;
  int polled_events_ = 0;
  ConnectionObserver* observer_ = nullptr;
  HangupObserver* hangup_observer_ = nullptr;
  FrameReader reader_;
  OutputQueue output_;
  std::shared_ptr<FastRegions> fast_;
  std::vector<uint8_t> fast_reply_;

  /** Whole messages that came while a request waited, oldest first. */
  std::deque<Frame> stash_;
  size_t stash_bytes_ = 0;

  bool paused_ = false;
  /** Fast replies have filled the output queue: no more reading until it drains. */
  bool stalled_ = false;
  bool wants_writable_ = false;
  /** The peer takes nothing more; what it still sent is read before the connection ends. */
  int write_error_ = 0;
  /** The peer has gone while paused with unread messages: nothing more to poll for. */
  bool hangup_seen_ = false;
  bool ended_ = false;
  bool closed_here_ = false;
  bool told_ = false;
  bool turn_scheduled_ = false;
  EndReason reason_;
};

}  // namespace vvu
