// `NativeWatch` of src/native.ts, and the other functions on eventfds.
#pragma once

#include <napi.h>

#include <map>
#include <memory>

#include "callback.h"
#include "fd_util.h"
#include "loop_handle.h"
#include "wrapped.h"

namespace vvu {

class Watch;

/** All watches of an instance: one epoll, of which the loop polls the one fd. */
class WatchSet : public Resource, public std::enable_shared_from_this<WatchSet> {
 public:
  /** The instance's set, made when there is none. */
  static std::shared_ptr<WatchSet> Of(Instance& instance);

  explicit WatchSet(Instance& instance);
  ~WatchSet() override;

  /** Throws the errno. The result names the watch to `Remove`. */
  uint64_t Add(int eventfd, Watch* watch);
  void Remove(uint64_t id, int eventfd);
  void Shutdown() noexcept override;

 private:
  static constexpr int kEventsPerTurn = 64;

  void Open();
  void Dispatch();

  std::shared_ptr<Instance> instance_;
  UniqueFd epoll_;
  PollHandle poll_;
  /** By number, so that an event of a watch that was closed meanwhile finds nothing. */
  std::map<uint64_t, Watch*> watches_;
  uint64_t next_id_ = 1;
};

class Watch : public Wrapped<Watch> {
 public:
  static void Define(Instance& instance);
  /** `watchEventFd` of src/native.ts. */
  static Napi::Value Create(const Napi::CallbackInfo& info);

  explicit Watch(const Napi::CallbackInfo& info);
  ~Watch() override;

  /** Takes the counter and tells JavaScript. */
  void OnSignal();

 private:
  Napi::Value Close(const Napi::CallbackInfo& info);

  UniqueFd eventfd_;
  std::shared_ptr<WatchSet> set_;
  uint64_t id_ = 0;
  CallbackContext context_;
  FunctionRef on_signal_;
};

/** Defines `createEventFd`, `checkEventFd`, `signalEventFd` and `readEventFd`. */
void DefineEventFdFunctions(Napi::Object exports);

}  // namespace vvu
