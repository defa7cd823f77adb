// `NativeSocket` of src/native.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "callback.h"
#include "connection.h"
#include "wrapped.h"

namespace vvu {

class Socket : public Wrapped<Socket>, private ConnectionObserver, private HangupObserver {
 public:
  static void Define(Instance& instance);
  /** Takes a connected, non-blocking socket. */
  static Napi::Object Create(Instance& instance, UniqueFd fd);

  explicit Socket(const Napi::CallbackInfo& info);
  ~Socket() override;

 private:
  bool OnMessage(Frame frame) override;
  void OnWritable() override;
  void OnClosed(const EndReason& reason) override;
  void OnHangup() override;

  Napi::Value Start(const Napi::CallbackInfo& info);
  Napi::Value Send(const Napi::CallbackInfo& info);
  Napi::Value Pause(const Napi::CallbackInfo& info);
  Napi::Value Resume(const Napi::CallbackInfo& info);
  Napi::Value WatchHangup(const Napi::CallbackInfo& info);
  Napi::Value Request(const Napi::CallbackInfo& info);
  Napi::Value AttachFastRegions(const Napi::CallbackInfo& info);
  Napi::Value Peer(const Napi::CallbackInfo& info);
  Napi::Value Queued(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  void ForgetHandlers();

  std::shared_ptr<Connection> connection_;
  CallbackContext context_;
  FunctionRef handlers_;
  FunctionRef message_;
  FunctionRef writable_;
  FunctionRef closed_;
  CallbackContext hangup_context_;
  FunctionRef hangup_;
};

/** Defines what makes sockets without a listener. */
void DefineSocketFunctions(Napi::Object exports);

}  // namespace vvu
