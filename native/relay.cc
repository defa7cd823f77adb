#include "relay.h"

#include "args.h"
#include "eventfd.h"
#include "relay_thread.h"

namespace vvu {

void Relay::Define(Instance& instance) {
  instance.DefineClass(ClassId::kRelay, DefineClass(instance.env(), "NativeRelay",
                                                    {Method<&Relay::Close>("close")}));
}

Napi::Value Relay::Create(const Napi::CallbackInfo& info) {
  UniqueFd source = DupEventFd(ToFd(info[0]));
  UniqueFd target = DupEventFd(ToFd(info[1]));
  uint64_t id = AddRelay(std::move(source), RelaySource::kEventFd, SignalTarget(std::move(target)));
  return Instance::Of(info.Env()).Construct(ClassId::kRelay, &id);
}

Napi::Value Relay::CreateUio(const Napi::CallbackInfo& info) {
  UniqueFd source = DupFd(ToFd(info[0]));
  SetNonBlocking(source.get());
  UniqueFd target = DupEventFd(ToFd(info[1]));
  uint64_t id = AddRelay(std::move(source), RelaySource::kUio, SignalTarget(std::move(target)));
  return Instance::Of(info.Env()).Construct(ClassId::kRelay, &id);
}

Napi::Value Relay::CreateStore(const Napi::CallbackInfo& info) {
  UniqueFd source = DupEventFd(ToFd(info[0]));
  const Bytes bytes = ToBytes(info[3], "bytes");
  auto target = StoreTarget(ToFd(info[1]), ToInteger(info[2], "offset"), bytes.data, bytes.size);
  uint64_t id = AddRelay(std::move(source), RelaySource::kEventFd, std::move(target));
  return Instance::Of(info.Env()).Construct(ClassId::kRelay, &id);
}

Relay::Relay(const Napi::CallbackInfo& info) : Wrapped<Relay>(info) {
  Instance& instance = Instance::Of(info.Env());
  id_ = *static_cast<uint64_t*>(instance.TakePayload());
  instance_ = instance.shared_from_this();
  instance_->Add(this);
  // A binding works until it is closed, whether or not somebody still holds it.
  Ref();
}

Relay::~Relay() {
  if (instance_ != nullptr) Shutdown();
}

void Relay::Shutdown() noexcept {
  instance_->Remove(this);
  if (id_ != 0) RemoveRelay(std::exchange(id_, 0));
}

Napi::Value Relay::Close(const Napi::CallbackInfo& info) {
  if (id_ != 0) {
    Shutdown();
    Unref();
  }
  return info.Env().Undefined();
}

}  // namespace vvu
