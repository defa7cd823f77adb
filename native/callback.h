// Calls from the loop into JavaScript.
#pragma once

#include <napi.h>

#include <initializer_list>

namespace vvu {

/** A JavaScript function that the loop calls, kept alive together with its `this`. */
class FunctionRef {
 public:
  FunctionRef() = default;
  FunctionRef(FunctionRef&& other) noexcept;
  FunctionRef& operator=(FunctionRef&& other) noexcept;
  explicit FunctionRef(Napi::Value value);
  ~FunctionRef() { Reset(); }

  bool empty() const { return reference_ == nullptr; }
  napi_value Get() const;
  void Reset();

 private:
  napi_env env_ = nullptr;
  napi_ref reference_ = nullptr;
};

/** The async context (async_hooks, AsyncLocalStorage) that an object's callbacks run in. */
class CallbackContext {
 public:
  CallbackContext() = default;
  CallbackContext(const CallbackContext&) = delete;
  CallbackContext& operator=(const CallbackContext&) = delete;
  ~CallbackContext() { Close(); }

  void Open(Napi::Object resource, const char* name);
  void Close();

  /**
   * Calls `function` with `receiver` as `this`, then runs microtasks. What it throws becomes an
   * uncaughtException. False when JavaScript can run no more, as in a worker that is ending.
   */
  bool Call(napi_value receiver, napi_value function, std::initializer_list<napi_value> args) const;

 private:
  napi_env env_ = nullptr;
  napi_async_context context_ = nullptr;
};

}  // namespace vvu
