// `NativeListener` of src/native.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "callback.h"
#include "loop_handle.h"
#include "unix_listen.h"
#include "wrapped.h"

namespace vvu {

class Listener : public Wrapped<Listener>, private Resource {
 public:
  static void Define(Instance& instance);
  /** `listen` of src/native.ts. */
  static Napi::Value Listen(const Napi::CallbackInfo& info);

  explicit Listener(const Napi::CallbackInfo& info);
  ~Listener() override;

 private:
  // Connections of one turn of the loop.
  static constexpr int kAcceptsPerTurn = 16;
  static constexpr uint64_t kRetryMs = 100;

  void Shutdown() noexcept override;
  void Watch();
  void Accept();
  bool Deliver(UniqueFd fd);
  void RetryLater();

  Napi::Value Path(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  std::shared_ptr<Instance> instance_;
  ListeningSocket socket_;
  std::string path_;
  PollHandle poll_;
  TimerHandle retry_;
  CallbackContext context_;
  FunctionRef on_connection_;
};

}  // namespace vvu
