#include "errors.h"

#include <uv.h>

#include <cerrno>
#include <cstring>

namespace vvu {

std::string ErrnoName(int error) {
  // libuv knows no name for this one, and it is what too many fds in flight look like.
  if (error == ETOOMANYREFS) return "ETOOMANYREFS";
  char name[64];
  return uv_err_name_r(-error, name, sizeof(name));
}

std::string ErrnoText(int error, const std::string& what) {
  char text[128];
  return what + ": " + uv_strerror_r(-error, text, sizeof(text));
}

Failure ErrnoFailure(int error, const std::string& what) {
  return Failure(ErrnoName(error), ErrnoText(error, what));
}

Napi::Error ToError(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.code() + ": " + failure.what());
  error.Set("code", Napi::String::New(env, failure.code()));
  return error;
}

}  // namespace vvu
