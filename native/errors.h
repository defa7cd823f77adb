// Failures that cross to JavaScript as `Error`s with a stable `code`.
#pragma once

#include <napi.h>

#include <stdexcept>
#include <string>

namespace vvu {

/** Thrown by native code; `Guarded` turns it into a JavaScript error. */
class Failure : public std::runtime_error {
 public:
  Failure(std::string code, const std::string& message)
      : std::runtime_error(message), code_(std::move(code)) {}

  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

/** The errno's symbolic name, for example "ECONNRESET". */
std::string ErrnoName(int error);

/** "what: description", for logs. */
std::string ErrnoText(int error, const std::string& what);

/** A failure whose code is the errno's name; `what` names the system call. */
Failure ErrnoFailure(int error, const std::string& what);

/** The JavaScript error of a failure: `message` starts with the code, `code` holds it. */
Napi::Error ToError(Napi::Env env, const Failure& failure);

/** Runs `body`, throwing what fails as a JavaScript error. */
template <typename Body>
auto Guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Failure& failure) {
    throw ToError(env, failure);
  } catch (const std::bad_alloc&) {
    throw ToError(env, Failure("ENOMEM", "out of memory"));
  }
}

}  // namespace vvu
