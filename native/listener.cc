#include "listener.h"

#include <sys/socket.h>

#include <cerrno>

#include "args.h"
#include "errors.h"
#include "socket.h"

namespace vvu {
namespace {

struct Payload {
  ListeningSocket socket;
  std::string path;
  Napi::Function on_connection;
};

}  // namespace

void Listener::Define(Instance& instance) {
  instance.DefineClass(ClassId::kListener, DefineClass(instance.env(), "NativeListener",
                                                       {Getter<&Listener::Path>("path"),
                                                        Method<&Listener::Close>("close")}));
}

Napi::Value Listener::Listen(const Napi::CallbackInfo& info) {
  const std::string path = ToText(info[0], "path");
  const Napi::Object options = ToObject(info[1], "options");
  const Napi::Function on_connection = ToFunction(info[2], "onConnection");
  const Napi::Value mode = options.Get("mode");
  const Napi::Value gid = options.Get("gid");
  const uint64_t mode_bits = mode.IsUndefined() ? 0600 : ToInteger(mode, "mode", 0777);
  std::optional<gid_t> group;
  if (!gid.IsUndefined()) group = static_cast<gid_t>(ToInteger(gid, "gid", UINT32_MAX - 1));
  Payload payload{ListeningSocket::Open(path, static_cast<mode_t>(mode_bits), group), path,
                  on_connection};
  return Instance::Of(info.Env()).Construct(ClassId::kListener, &payload);
}

Listener::Listener(const Napi::CallbackInfo& info) : Wrapped<Listener>(info) {
  Instance& instance = Instance::Of(info.Env());
  auto* payload = static_cast<Payload*>(instance.TakePayload());
  instance_ = instance.shared_from_this();
  socket_ = std::move(payload->socket);
  path_ = payload->path;
  const int fd = socket_.fd();
  const int status = poll_.Open(
      instance, [this](int, int) { Accept(); },
      [fd](uv_loop_t* loop, uv_poll_t* handle) { return uv_poll_init(loop, handle, fd); });
  if (status != 0) throw ToError(info.Env(), ErrnoFailure(-status, "uv_poll_init"));
  retry_.Open(instance, [this] { Watch(); }, uv_timer_init);
  on_connection_ = FunctionRef(payload->on_connection);
  context_.Open(info.This().As<Napi::Object>(), "VVU_LISTENER");
  instance_->Add(this);
  Ref();
  Watch();
}

Listener::~Listener() {
  if (instance_ != nullptr) Shutdown();
}

void Listener::Shutdown() noexcept {
  instance_->Remove(this);
  poll_.Close();
  retry_.Close();
  socket_.Close();
}

void Listener::Watch() { uv_poll_start(poll_.get(), UV_READABLE, PollHandle::Run); }

void Listener::Accept() {
  const Napi::HandleScope scope(Env());
  [[maybe_unused]] const Napi::Value self = Value();  // `close` in a callback lets go of the object
  for (int i = 0; i < kAcceptsPerTurn && poll_.open(); ++i) {
    UniqueFd fd(accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      if (!Deliver(std::move(fd))) return;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      return RetryLater();
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

bool Listener::Deliver(UniqueFd fd) {
  const Napi::HandleScope scope(Env());
  Napi::Object socket;
  try {
    socket = Socket::Create(*instance_, std::move(fd));
  } catch (const Failure&) {
    return true;  // the peer has gone again
  } catch (const Napi::Error&) {
    return false;  // an environment that ends
  }
  return context_.Call(Value(), on_connection_.Get(), {socket});
}

/** The connection stays in the backlog, and its readiness would spin the loop. */
void Listener::RetryLater() {
  uv_poll_stop(poll_.get());
  uv_timer_start(retry_.get(), TimerHandle::Run, kRetryMs, 0);
}

Napi::Value Listener::Path(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), path_);
}

Napi::Value Listener::Close(const Napi::CallbackInfo& info) {
  if (poll_.open()) {
    Shutdown();
    on_connection_.Reset();
    context_.Close();
    Unref();
  }
  return info.Env().Undefined();
}

}  // namespace vvu
