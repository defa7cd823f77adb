#include "callback.h"

#include <utility>

namespace vvu {

FunctionRef::FunctionRef(Napi::Value value) : env_(value.Env()) {
  napi_create_reference(env_, value, 1, &reference_);
}

FunctionRef::FunctionRef(FunctionRef&& other) noexcept
    : env_(other.env_), reference_(std::exchange(other.reference_, nullptr)) {}

FunctionRef& FunctionRef::operator=(FunctionRef&& other) noexcept {
  std::swap(env_, other.env_);
  std::swap(reference_, other.reference_);
  return *this;
}

napi_value FunctionRef::Get() const {
  napi_value value = nullptr;
  napi_get_reference_value(env_, reference_, &value);
  return value;
}

void FunctionRef::Reset() {
  if (reference_ != nullptr) napi_delete_reference(env_, std::exchange(reference_, nullptr));
}

void CallbackContext::Open(Napi::Object resource, const char* name) {
  env_ = resource.Env();
  napi_async_init(env_, resource, Napi::String::New(env_, name), &context_);
}

void CallbackContext::Close() {
  if (context_ != nullptr) napi_async_destroy(env_, std::exchange(context_, nullptr));
}

bool CallbackContext::Call(napi_value receiver, napi_value function,
                           std::initializer_list<napi_value> args) const {
  const napi_status status =
      napi_make_callback(env_, context_, receiver, function, args.size(), args.begin(), nullptr);
  if (status == napi_ok) return true;
  bool pending = false;
  napi_is_exception_pending(env_, &pending);
  if (!pending) return false;
  napi_value error = nullptr;
  napi_get_and_clear_last_exception(env_, &error);
  return napi_fatal_exception(env_, error) == napi_ok;
}

}  // namespace vvu
