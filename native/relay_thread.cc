#include "relay_thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "errors.h"
#include "eventfd.h"
#include "eventfd_signal.h"

namespace vvu {
namespace {

constexpr uint64_t kStopId = 0;
constexpr int kEventsPerWait = 64;

struct Binding {
  UniqueFd source;
  RelaySource kind;
  std::unique_ptr<RelayTarget> target;
};

enum class Taken { kNothing, kSignal, kEnd };

/** Takes the signals that are there, without blocking. */
Taken Take(const Binding& binding) {
  if (binding.kind == RelaySource::kEventFd) {
    uint64_t count;
    const int error = ReadEventFd(binding.source.get(), &count);
    return error == 0 && count > 0 ? Taken::kSignal : Taken::kNothing;
  }
  int32_t interrupts;
  const ssize_t taken = read(binding.source.get(), &interrupts, sizeof(interrupts));
  if (taken == sizeof(interrupts)) return Taken::kSignal;
  return taken < 0 && (errno == EAGAIN || errno == EINTR) ? Taken::kNothing : Taken::kEnd;
}

class RelayThread {
 public:
  uint64_t Add(UniqueFd source, RelaySource kind, std::unique_ptr<RelayTarget> target);
  void Remove(uint64_t id);

 private:
  void Start();
  void Stop();
  void Watch(int fd, uint64_t id);
  void Run();
  void Pass(uint64_t id);

  /** Held to add, remove, start and stop; the thread never takes it. */
  std::mutex control_;
  /** Held while one signal is passed on, and to change the bindings. */
  std::mutex passing_;
  std::map<uint64_t, Binding> bindings_;
  uint64_t next_id_ = kStopId + 1;
  UniqueFd epoll_;
  UniqueFd stop_;
  std::optional<std::thread> thread_;
};

/** Never destroyed: a thread may outlive the static objects of a process that exits. */
RelayThread& TheRelay() {
  static auto* const relay = new RelayThread;
  return *relay;
}

uint64_t RelayThread::Add(UniqueFd source, RelaySource kind, std::unique_ptr<RelayTarget> target) {
  const std::lock_guard<std::mutex> control(control_);
  const uint64_t id = next_id_++;
  if (!thread_) Start();
  const int source_fd = source.get();
  {
    const std::lock_guard<std::mutex> passing(passing_);
    bindings_.emplace(id, Binding{std::move(source), kind, std::move(target)});
  }
  try {
    Watch(source_fd, id);
  } catch (const Failure&) {
    {
      const std::lock_guard<std::mutex> passing(passing_);
      bindings_.erase(id);
    }
    if (bindings_.empty()) Stop();
    throw;
  }
  return id;
}

void RelayThread::Remove(uint64_t id) {
  const std::lock_guard<std::mutex> control(control_);
  {
    const std::lock_guard<std::mutex> passing(passing_);
    const auto entry = bindings_.find(id);
    if (entry == bindings_.end()) return;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->second.source.get(), nullptr);
    bindings_.erase(entry);
  }
  if (bindings_.empty()) Stop();
}

void RelayThread::Start() {
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) throw ErrnoFailure(errno, "epoll_create1");
  stop_ = CreateEventFd();
  Watch(stop_.get(), kStopId);
  // Signals are for the threads that the application knows.
  sigset_t all;
  sigset_t saved;
  sigfillset(&all);
  // A blocked SIGBUS ends the process; a register's target survives it.
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &saved);
  int error = 0;
  try {
    thread_.emplace([this] { Run(); });
    pthread_setname_np(thread_->native_handle(), "vvu-relay");
  } catch (const std::system_error& failure) {
    error = failure.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  if (error != 0) throw ErrnoFailure(error, "pthread_create");
}

void RelayThread::Stop() {
  SignalEventFd(stop_.get());
  thread_->join();
  thread_.reset();
  epoll_.Reset();
  stop_.Reset();
}

void RelayThread::Watch(int fd, uint64_t id) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = id;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw ErrnoFailure(errno, "epoll_ctl");
  }
}

void RelayThread::Run() {
  PrepareEventFdSignals();
  while (true) {
    epoll_event events[kEventsPerWait];
    const int count = epoll_wait(epoll_.get(), events, kEventsPerWait, -1);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 == kStopId) return;
      Pass(events[i].data.u64);
    }
  }
}

void RelayThread::Pass(uint64_t id) {
  const std::lock_guard<std::mutex> passing(passing_);
  const auto entry = bindings_.find(id);
  if (entry == bindings_.end()) return;
  const Taken taken = Take(entry->second);
  if (taken == Taken::kNothing) return;
  if (taken == Taken::kEnd) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->second.source.get(), nullptr);
  }
  entry->second.target->Signal();
}

}  // namespace

uint64_t AddRelay(UniqueFd source, RelaySource kind, std::unique_ptr<RelayTarget> target) {
  return TheRelay().Add(std::move(source), kind, std::move(target));
}

void RemoveRelay(uint64_t id) { TheRelay().Remove(id); }

}  // namespace vvu
