// Checked conversion of JavaScript arguments: whatever a caller passes ends in a value or an error.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

namespace vvu {

/** Bytes of a Uint8Array; valid until JavaScript runs again. */
struct Bytes {
  uint8_t* data;
  size_t size;
};

/** A safe integer in 0..`max`. Anything else that is a number fails with OUT_OF_RANGE. */
uint64_t ToInteger(Napi::Value value, const char* name, uint64_t max = (uint64_t{1} << 53) - 1);

/** A number that can be an fd; whether it is open shows when it is used. Else EBADF. */
int ToFd(Napi::Value value);

Bytes ToBytes(Napi::Value value, const char* name);

/** A string without NUL bytes (they would silently cut a path short). */
std::string ToText(Napi::Value value, const char* name);

bool ToBool(Napi::Value value, const char* name);

Napi::Object ToObject(Napi::Value value, const char* name);

Napi::Function ToFunction(Napi::Value value, const char* name);

}  // namespace vvu
