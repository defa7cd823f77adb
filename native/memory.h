// `NativeMemory` of src/native.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "mapping.h"
#include "views.h"
#include "wrapped.h"

namespace vvu {

class Memory : public Wrapped<Memory>, private Resource {
 public:
  static void Define(Instance& instance);
  /** `map` of src/native.ts. */
  static Napi::Value Map(const Napi::CallbackInfo& info);
  /** `mapDevice` of src/native.ts. */
  static Napi::Value MapDevice(const Napi::CallbackInfo& info);
  /** The object for a mapping. */
  static Napi::Object Wrap(Instance& instance, std::shared_ptr<Mapping> mapping);
  /** The mapping of a memory, released or not. Throws ERR_INVALID_ARG_TYPE. */
  static std::shared_ptr<Mapping> MappingOf(Napi::Value value);

  explicit Memory(const Napi::CallbackInfo& info);
  ~Memory() override;

 private:
  void Shutdown() noexcept override {}
  void OnPoison() override;

  Napi::Value Size(const Napi::CallbackInfo& info);
  Napi::Value FileOffset(const Napi::CallbackInfo& info);
  Napi::Value Writable(const Napi::CallbackInfo& info);
  Napi::Value Poisoned(const Napi::CallbackInfo& info);
  Napi::Value Released(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value ReadInto(const Napi::CallbackInfo& info);
  Napi::Value Write(const Napi::CallbackInfo& info);
  Napi::Value CopyFrom(const Napi::CallbackInfo& info);
  Napi::Value Fill(const Napi::CallbackInfo& info);
  Napi::Value View(const Napi::CallbackInfo& info);
  template <typename Word>
  Napi::Value Load(const Napi::CallbackInfo& info);
  template <typename Word>
  Napi::Value Store(const Napi::CallbackInfo& info);
  Napi::Value OrByte(const Napi::CallbackInfo& info);
  Napi::Value Release(const Napi::CallbackInfo& info);

  std::shared_ptr<Instance> instance_;
  std::shared_ptr<Mapping> mapping_;
  std::shared_ptr<Views> views_;
  bool poison_told_ = false;
};

}  // namespace vvu
