// `NativeFastRegions` of src/native.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "fast_regions.h"
#include "wrapped.h"

namespace vvu {

class FastRegionsObject : public Wrapped<FastRegionsObject> {
 public:
  static void Define(Instance& instance);
  static Napi::Value Create(const Napi::CallbackInfo& info);
  /** The table of a live object. Throws ERR_INVALID_ARG_TYPE or RELEASED. */
  static std::shared_ptr<FastRegions> TableOf(Napi::Value value);

  explicit FastRegionsObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value SetDoorbells(const Napi::CallbackInfo& info);
  Napi::Value SetDoorbell(const Napi::CallbackInfo& info);
  Napi::Value DoorbellCount(const Napi::CallbackInfo& info);
  Napi::Value MapWindow(const Napi::CallbackInfo& info);
  Napi::Value UnmapWindow(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  FastRegions& table() const;

  /** Null once closed; sockets may still hold the table, then empty. */
  std::shared_ptr<FastRegions> table_;
};

}  // namespace vvu
