// Base of the classes that JavaScript sees.
#pragma once

#include <napi.h>

#include "errors.h"

namespace vvu {

/** `Napi::ObjectWrap` whose methods may throw `Failure`. */
template <typename T>
class Wrapped : public Napi::ObjectWrap<T> {
 public:
  using Napi::ObjectWrap<T>::ObjectWrap;

 protected:
  using Body = Napi::Value (T::*)(const Napi::CallbackInfo&);
  using Property = Napi::ClassPropertyDescriptor<T>;

  template <Napi::Value (T::*body)(const Napi::CallbackInfo&)>
  static Property Method(const char* name) {
    return Napi::ObjectWrap<T>::InstanceMethod(name,
                                               static_cast<Body>(&Wrapped<T>::template Run<body>));
  }

  template <Napi::Value (T::*body)(const Napi::CallbackInfo&)>
  static Property Getter(const char* name) {
    return Napi::ObjectWrap<T>::InstanceAccessor(
        name, static_cast<Body>(&Wrapped<T>::template Run<body>), nullptr, napi_enumerable);
  }

 private:
  template <Napi::Value (T::*body)(const Napi::CallbackInfo&)>
  Napi::Value Run(const Napi::CallbackInfo& info) {
    return Guarded(info.Env(), [&] { return (static_cast<T*>(this)->*body)(info); });
  }
};

/** The same for a plain function. */
template <Napi::Value (*body)(const Napi::CallbackInfo&)>
void SetFunction(Napi::Object exports, const char* name) {
  const auto run = [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Guarded(info.Env(), [&] { return body(info); });
  };
  exports.Set(name, Napi::Function::New(exports.Env(), run, name));
}

}  // namespace vvu
