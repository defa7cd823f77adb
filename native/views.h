// ArrayBuffers over a mapping, which must not outlive it.
#pragma once

#include <napi.h>

#include <memory>
#include <set>

#include "mapping.h"

namespace vvu {

/** The views of one mapping. A view that is still in use keeps the mapping, until `Detach`. */
class Views : public std::enable_shared_from_this<Views> {
 public:
  /**
   * A shared window. Node 20 spends a major GC on an external ArrayBuffer of 64 MiB and fails above
   * 4 GiB, and a window is meant for a ring: longer ones are refused. So are those of read-only
   * memory, where a store by JavaScript would end the process.
   */
  static constexpr uint64_t kMaxView = 64 << 10;

  explicit Views(std::shared_ptr<Mapping> mapping) : mapping_(std::move(mapping)) {}

  Napi::Value Create(Napi::Env env, uint64_t offset, uint64_t length);

  /** Detaches every view: their length is 0 from now on. */
  void Detach(Napi::Env env);

 private:
  struct Entry {
    std::shared_ptr<Views> owner;
    napi_ref weak;
  };

  static void Finalize(napi_env env, void* data, void* hint);

  std::shared_ptr<Mapping> mapping_;
  std::set<Entry*> entries_;
};

}  // namespace vvu
