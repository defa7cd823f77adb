#include "eventfd_watch.h"

#include <sys/epoll.h>

#include <cerrno>

#include "args.h"
#include "errors.h"
#include "eventfd.h"

namespace vvu {
namespace {

struct Payload {
  UniqueFd eventfd;
  Napi::Function on_signal;
};

Napi::Value CreateFd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), CreateEventFd().Release());
}

Napi::Value CheckFd(const Napi::CallbackInfo& info) {
  CheckEventFd(ToFd(info[0]));
  return info.Env().Undefined();
}

Napi::Value SignalFd(const Napi::CallbackInfo& info) {
  const int error = SignalEventFd(ToFd(info[0]));
  if (error != 0) throw ErrnoFailure(error, "write to an eventfd");
  return info.Env().Undefined();
}

Napi::Value ReadFd(const Napi::CallbackInfo& info) {
  uint64_t count;
  const int error = ReadEventFd(ToFd(info[0]), &count);
  if (error != 0) throw ErrnoFailure(error, "read of an eventfd");
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

}  // namespace

std::shared_ptr<WatchSet> WatchSet::Of(Instance& instance) {
  std::shared_ptr<WatchSet> set = instance.watch_set().lock();
  if (set == nullptr) {
    set = std::make_shared<WatchSet>(instance);
    set->Open();
    instance.watch_set() = set;
  }
  return set;
}

WatchSet::WatchSet(Instance& instance) : instance_(instance.shared_from_this()) {
  instance_->Add(this);
}

WatchSet::~WatchSet() { Shutdown(); }

void WatchSet::Open() {
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) throw ErrnoFailure(errno, "epoll_create1");
  const int status = poll_.Open(
      *instance_, [this](int, int) { Dispatch(); },
      [this](uv_loop_t* loop, uv_poll_t* handle) {
        return uv_poll_init(loop, handle, epoll_.get());
      });
  if (status != 0) throw ErrnoFailure(-status, "uv_poll_init");
  uv_poll_start(poll_.get(), UV_READABLE, PollHandle::Run);
}

uint64_t WatchSet::Add(int eventfd, Watch* watch) {
  const uint64_t id = next_id_++;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = id;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, eventfd, &event) != 0) {
    throw ErrnoFailure(errno, "epoll_ctl");
  }
  watches_.emplace(id, watch);
  return id;
}

void WatchSet::Remove(uint64_t id, int eventfd) {
  // Explicitly: closing our duplicate alone leaves the entry, as the peer holds the same file.
  if (epoll_.valid()) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, eventfd, nullptr);
  watches_.erase(id);
}

void WatchSet::Dispatch() {
  const auto self = shared_from_this();
  epoll_event events[kEventsPerTurn];
  const int count = epoll_wait(epoll_.get(), events, kEventsPerTurn, 0);
  // Each fd is read once per turn, and epoll puts what is signalled again behind the others.
  for (int i = 0; i < count && epoll_.valid(); ++i) {
    const auto watch = watches_.find(events[i].data.u64);
    if (watch != watches_.end()) watch->second->OnSignal();
  }
}

void WatchSet::Shutdown() noexcept {
  instance_->Remove(this);
  poll_.Close();
  epoll_.Reset();
}

void Watch::Define(Instance& instance) {
  instance.DefineClass(ClassId::kWatch, DefineClass(instance.env(), "NativeWatch",
                                                    {Method<&Watch::Close>("close")}));
}

Napi::Value Watch::Create(const Napi::CallbackInfo& info) {
  const Napi::Function on_signal = ToFunction(info[1], "onSignal");
  Payload payload{DupEventFd(ToFd(info[0])), on_signal};
  return Instance::Of(info.Env()).Construct(ClassId::kWatch, &payload);
}

Watch::Watch(const Napi::CallbackInfo& info) : Wrapped<Watch>(info) {
  Instance& instance = Instance::Of(info.Env());
  auto* payload = static_cast<Payload*>(instance.TakePayload());
  eventfd_ = std::move(payload->eventfd);
  Guarded(info.Env(), [&] {
    set_ = WatchSet::Of(instance);
    id_ = set_->Add(eventfd_.get(), this);
  });
  on_signal_ = FunctionRef(payload->on_signal);
  context_.Open(info.This().As<Napi::Object>(), "VVU_EVENTFD");
  Ref();
}

Watch::~Watch() {
  if (set_ != nullptr) set_->Remove(id_, eventfd_.get());
}

void Watch::OnSignal() {
  uint64_t count = 0;
  // Zero: somebody else who holds the eventfd was faster.
  if (ReadEventFd(eventfd_.get(), &count) != 0 || count == 0) return;
  const Napi::HandleScope scope(Env());
  context_.Call(Value(), on_signal_.Get(), {Napi::Number::New(Env(), static_cast<double>(count))});
}

Napi::Value Watch::Close(const Napi::CallbackInfo& info) {
  if (set_ != nullptr) {
    set_->Remove(id_, eventfd_.get());
    set_.reset();
    eventfd_.Reset();
    on_signal_.Reset();
    context_.Close();
    Unref();
  }
  return info.Env().Undefined();
}

void DefineEventFdFunctions(Napi::Object exports) {
  SetFunction<CreateFd>(exports, "createEventFd");
  SetFunction<CheckFd>(exports, "checkEventFd");
  SetFunction<SignalFd>(exports, "signalEventFd");
  SetFunction<ReadFd>(exports, "readEventFd");
}

}  // namespace vvu
