#include "socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <limits>

#include "args.h"
#include "errors.h"
#include "fast_regions_object.h"

namespace vvu {
namespace {

constexpr int kSocketType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

Framing ToFraming(Napi::Value value) {
  const Napi::Object object = ToObject(value, "framing");
  Framing framing;
  framing.header_size = ToInteger(object.Get("headerSize"), "headerSize", Framing::kMaxHeader);
  framing.length_offset = ToInteger(object.Get("lengthOffset"), "lengthOffset");
  framing.length_includes_header =
      ToBool(object.Get("lengthIncludesHeader"), "lengthIncludesHeader");
  framing.max_message = ToInteger(object.Get("maxMessage"), "maxMessage", Framing::kMaxMessage);
  framing.max_fds = ToInteger(object.Get("maxFds"), "maxFds", Framing::kMaxFds);
  if (framing.header_size < Framing::kMinHeader || framing.max_message < framing.header_size ||
      framing.length_offset > framing.header_size - sizeof(uint32_t)) {
    throw Failure("OUT_OF_RANGE", "the framing's sizes don't fit together");
  }
  return framing;
}

/** The numbers of an array; whether they are open fds, the kernel finds out. */
std::vector<int> ToFds(Napi::Value value) {
  std::vector<int> fds;
  if (value.IsUndefined()) return fds;
  if (!value.IsArray()) throw Failure("ERR_INVALID_ARG_TYPE", "fds must be an array");
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > Framing::kMaxFds) {
    throw Failure("OUT_OF_RANGE",
                  "a message carries at most " + std::to_string(Framing::kMaxFds) + " fds");
  }
  for (uint32_t i = 0; i < array.Length(); ++i) fds.push_back(ToFd(array.Get(i)));
  return fds;
}

Napi::Value Connect(const Napi::CallbackInfo& info) {
  const std::string path = ToText(info[0], "path");
  const sockaddr_un address = UnixAddress(path);
  UniqueFd fd(socket(AF_UNIX, kSocketType, 0));
  if (!fd.valid()) throw ErrnoFailure(errno, "socket");
  // AF_UNIX connects at once or not at all; EAGAIN says that the listener's backlog is full.
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    throw ErrnoFailure(errno, "connect to " + path);
  }
  return Socket::Create(Instance::Of(info.Env()), std::move(fd));
}

int Option(int fd, int option) {
  int value = 0;
  socklen_t length = sizeof(value);
  if (getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0) return value;
  if (errno == ENOTSOCK) throw Failure("BAD_FD_TYPE", "the fd is no socket");
  throw ErrnoFailure(errno, "getsockopt");
}

/** Whoever sent the fd may have sent anything. */
void CheckConnectedStream(int fd) {
  if (Option(fd, SO_DOMAIN) != AF_UNIX || Option(fd, SO_TYPE) != SOCK_STREAM) {
    throw Failure("BAD_FD_TYPE", "the fd is no AF_UNIX stream socket");
  }
  sockaddr_un address;
  socklen_t length = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0) return;
  if (errno == ENOTCONN) throw Failure("BAD_FD_TYPE", "the socket is not connected");
  throw ErrnoFailure(errno, "getpeername");
}

Napi::Value AdoptSocket(const Napi::CallbackInfo& info) {
  const int fd = ToFd(info[0]);
  CheckConnectedStream(fd);
  // A duplicate first: until nothing can fail any more the fd is the caller's.
  const Napi::Object socket = Socket::Create(Instance::Of(info.Env()), DupFd(fd));
  UniqueFd taken(fd);
  return socket;
}

Napi::Value CreateSocketPair(const Napi::CallbackInfo& info) {
  int fds[2];
  if (socketpair(AF_UNIX, kSocketType, 0, fds) != 0) throw ErrnoFailure(errno, "socketpair");
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Napi::Number::New(info.Env(), fds[0]));
  pair.Set(1u, Napi::Number::New(info.Env(), fds[1]));
  return pair;
}

Napi::Value SocketPair(const Napi::CallbackInfo& info) {
  int fds[2];
  if (socketpair(AF_UNIX, kSocketType, 0, fds) != 0) throw ErrnoFailure(errno, "socketpair");
  UniqueFd first(fds[0]);
  UniqueFd second(fds[1]);
  Instance& instance = Instance::Of(info.Env());
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Socket::Create(instance, std::move(first)));
  pair.Set(1u, Socket::Create(instance, std::move(second)));
  return pair;
}

}  // namespace

void Socket::Define(Instance& instance) {
  instance.DefineClass(
      ClassId::kSocket,
      DefineClass(
          instance.env(), "NativeSocket",
          {Method<&Socket::Start>("start"), Method<&Socket::Send>("send"),
           Method<&Socket::Pause>("pause"), Method<&Socket::Resume>("resume"),
           Method<&Socket::WatchHangup>("watchHangup"), Method<&Socket::Request>("request"),
           Method<&Socket::AttachFastRegions>("attachFastRegions"), Getter<&Socket::Peer>("peer"),
           Getter<&Socket::Queued>("queued"), Method<&Socket::Close>("close")}));
}

Napi::Object Socket::Create(Instance& instance, UniqueFd fd) {
  auto connection = Connection::Create(instance, std::move(fd));
  return instance.Construct(ClassId::kSocket, &connection);
}

Socket::Socket(const Napi::CallbackInfo& info) : Wrapped<Socket>(info) {
  void* payload = Instance::Of(info.Env()).TakePayload();
  connection_ = *static_cast<std::shared_ptr<Connection>*>(payload);
}

Socket::~Socket() {
  if (connection_ != nullptr) connection_->Abandon();
}

bool Socket::OnMessage(Frame frame) {
  const Napi::Env env = Env();
  const Napi::HandleScope scope(env);
  napi_value bytes;
  napi_value fds;
  // These fail where JavaScript can run no more; the frame then closes its fds.
  if (napi_create_buffer_copy(env, frame.size, frame.data.get(), nullptr, &bytes) != napi_ok ||
      napi_create_array_with_length(env, frame.fds.size(), &fds) != napi_ok) {
    return false;
  }
  for (size_t i = 0; i < frame.fds.size(); ++i) {
    napi_value fd;
    napi_create_int32(env, frame.fds[i], &fd);
    if (napi_set_element(env, fds, static_cast<uint32_t>(i), fd) != napi_ok) return false;
  }
  frame.fds.Release();
  return context_.Call(handlers_.Get(), message_.Get(), {bytes, fds});
}

void Socket::OnWritable() {
  if (writable_.empty()) return;
  const Napi::HandleScope scope(Env());
  context_.Call(handlers_.Get(), writable_.Get(), {});
}

void Socket::OnClosed(const EndReason& reason) {
  const Napi::Env env = Env();
  const Napi::HandleScope scope(env);
  [[maybe_unused]] const Napi::Value self = Value();  // not collected before this function returns
  context_.Call(handlers_.Get(), closed_.Get(),
                {Napi::String::New(env, reason.code), Napi::String::New(env, reason.detail)});
  ForgetHandlers();
  Unref();
}

void Socket::OnHangup() {
  const Napi::HandleScope scope(Env());
  [[maybe_unused]] const Napi::Value self = Value();  // not collected before this function returns
  const FunctionRef callback = std::move(hangup_);
  hangup_context_.Call(Value(), callback.Get(), {});
}

void Socket::ForgetHandlers() {
  handlers_.Reset();
  message_.Reset();
  writable_.Reset();
  closed_.Reset();
  hangup_.Reset();
  context_.Close();
}

Napi::Value Socket::Start(const Napi::CallbackInfo& info) {
  const Framing framing = ToFraming(info[0]);
  const Napi::Object handlers = ToObject(info[1], "handlers");
  const Napi::Function message = ToFunction(handlers.Get("message"), "message");
  const Napi::Function closed = ToFunction(handlers.Get("closed"), "closed");
  const Napi::Value writable = handlers.Get("writable");
  if (!writable.IsUndefined()) ToFunction(writable, "writable");
  connection_->Start(framing, this);
  handlers_ = FunctionRef(handlers);
  message_ = FunctionRef(message);
  closed_ = FunctionRef(closed);
  if (!writable.IsUndefined()) writable_ = FunctionRef(writable);
  context_.Open(info.This().As<Napi::Object>(), "VVU_SOCKET");
  // Reading is a reason to live, until `closed`.
  Ref();
  return info.Env().Undefined();
}

Napi::Value Socket::Send(const Napi::CallbackInfo& info) {
  const std::vector<int> fds = ToFds(info[1]);
  const Bytes bytes = ToBytes(info[0], "bytes");
  if (bytes.size == 0) throw Failure("OUT_OF_RANGE", "an empty message can't be sent");
  const bool more = connection_->Send(bytes.data, bytes.size, fds.data(), fds.size());
  return Napi::Boolean::New(info.Env(), more);
}

Napi::Value Socket::Pause(const Napi::CallbackInfo& info) {
  connection_->Pause();
  return info.Env().Undefined();
}

Napi::Value Socket::Resume(const Napi::CallbackInfo& info) {
  connection_->Resume();
  return info.Env().Undefined();
}

Napi::Value Socket::WatchHangup(const Napi::CallbackInfo& info) {
  const Napi::Function callback = ToFunction(info[0], "callback");
  hangup_ = FunctionRef(callback);
  hangup_context_.Close();
  hangup_context_.Open(info.This().As<Napi::Object>(), "VVU_SOCKET");
  connection_->WatchHangup(this);
  return info.Env().Undefined();
}

Napi::Value Socket::Request(const Napi::CallbackInfo& info) {
  const uint64_t timeout = ToInteger(info[1], "timeoutMs", std::numeric_limits<int>::max());
  const Bytes bytes = ToBytes(info[0], "bytes");
  const Frame reply = connection_->Request(bytes.data, bytes.size, static_cast<int>(timeout));
  return Napi::Buffer<uint8_t>::Copy(info.Env(), reply.data.get(), reply.size);
}

Napi::Value Socket::AttachFastRegions(const Napi::CallbackInfo& info) {
  connection_->AttachFastRegions(info[0].IsNull() ? nullptr : FastRegionsObject::TableOf(info[0]));
  return info.Env().Undefined();
}

Napi::Value Socket::Peer(const Napi::CallbackInfo& info) {
  Napi::Object peer = Napi::Object::New(info.Env());
  const ucred& credentials = connection_->peer();
  peer.Set("pid", Napi::Number::New(info.Env(), credentials.pid));
  peer.Set("uid", Napi::Number::New(info.Env(), credentials.uid));
  peer.Set("gid", Napi::Number::New(info.Env(), credentials.gid));
  return peer;
}

Napi::Value Socket::Queued(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(connection_->queued()));
}

Napi::Value Socket::Close(const Napi::CallbackInfo& info) {
  hangup_.Reset();
  connection_->Close();
  return info.Env().Undefined();
}

void DefineSocketFunctions(Napi::Object exports) {
  SetFunction<Connect>(exports, "connect");
  SetFunction<SocketPair>(exports, "socketPair");
  SetFunction<AdoptSocket>(exports, "adoptSocket");
  SetFunction<CreateSocketPair>(exports, "createSocketPair");
}

}  // namespace vvu
