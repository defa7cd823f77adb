// `NativeRelay` of src/native.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "instance.h"
#include "wrapped.h"

namespace vvu {

class Relay : public Wrapped<Relay>, private Resource {
 public:
  static void Define(Instance& instance);
  /** `relayEventFd` of src/native.ts. */
  static Napi::Value Create(const Napi::CallbackInfo& info);
  /** `relayUio` of src/native.ts. */
  static Napi::Value CreateUio(const Napi::CallbackInfo& info);
  /** `relayStore` of src/native.ts. */
  static Napi::Value CreateStore(const Napi::CallbackInfo& info);

  explicit Relay(const Napi::CallbackInfo& info);
  ~Relay() override;

 private:
  void Shutdown() noexcept override;
  Napi::Value Close(const Napi::CallbackInfo& info);

  std::shared_ptr<Instance> instance_;
  /** 0 when closed. */
  uint64_t id_ = 0;
};

}  // namespace vvu
