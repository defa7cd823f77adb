#include "args.h"

#include <cmath>
#include <limits>

#include "errors.h"

namespace vvu {
namespace {

Failure WrongType(const char* name, const char* expected) {
  return Failure("ERR_INVALID_ARG_TYPE", std::string(name) + " must be " + expected);
}

}  // namespace

uint64_t ToInteger(Napi::Value value, const char* name, uint64_t max) {
  if (!value.IsNumber()) throw WrongType(name, "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  // Written so that NaN fails too.
  if (!(number >= 0 && number <= static_cast<double>(max)) || number != std::floor(number)) {
    throw Failure("OUT_OF_RANGE",
                  std::string(name) + " must be an integer in 0.." + std::to_string(max));
  }
  return static_cast<uint64_t>(number);
}

int ToFd(Napi::Value value) {
  if (!value.IsNumber()) throw WrongType("fd", "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= std::numeric_limits<int>::max()) || number != std::floor(number)) {
    throw Failure("EBADF", "not a file descriptor");
  }
  return static_cast<int>(number);
}

Bytes ToBytes(Napi::Value value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw WrongType(name, "a Uint8Array");
  }
  void* data = nullptr;
  size_t size = 0;
  napi_get_typedarray_info(value.Env(), value, nullptr, &size, &data, nullptr, nullptr);
  return {static_cast<uint8_t*>(data), data == nullptr ? 0 : size};
}

std::string ToText(Napi::Value value, const char* name) {
  if (!value.IsString()) throw WrongType(name, "a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) {
    throw Failure("EINVAL", std::string(name) + " contains a NUL byte");
  }
  return text;
}

bool ToBool(Napi::Value value, const char* name) {
  if (!value.IsBoolean()) throw WrongType(name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

Napi::Object ToObject(Napi::Value value, const char* name) {
  if (!value.IsObject()) throw WrongType(name, "an object");
  return value.As<Napi::Object>();
}

Napi::Function ToFunction(Napi::Value value, const char* name) {
  if (!value.IsFunction()) throw WrongType(name, "a function");
  return value.As<Napi::Function>();
}

}  // namespace vvu
