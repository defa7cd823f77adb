// What one load of the addon owns: a main thread or a worker thread has one instance each.
#pragma once

#include <napi.h>
#include <uv.h>

#include <deque>
#include <functional>
#include <memory>
#include <set>

namespace vvu {

/** Something that must end before its environment does: fds, uv handles, mappings. */
class Resource {
 public:
  /** Frees everything without calling into JavaScript. Called at most once, by the instance. */
  virtual void Shutdown() noexcept = 0;
  /** Called on the loop when some mapping of the instance was poisoned. */
  virtual void OnPoison() {}

 protected:
  virtual ~Resource() = default;
};

class WatchSet;

enum class ClassId { kSocket, kListener, kMemory, kWatch, kRelay, kFastRegions, kCount };

class Instance : public std::enable_shared_from_this<Instance> {
 public:
  /** Makes the instance of `env` and hooks it to the environment's end. */
  static void Create(Napi::Env env);
  /** The instance lives at least until the environment's last finalizer. */
  static Instance& Of(napi_env env);

  Instance(napi_env env, uv_loop_t* loop);
  ~Instance();

  napi_env env() const { return env_; }
  uv_loop_t* loop() const { return loop_; }

  void Add(Resource* resource) { resources_.insert(resource); }
  void Remove(Resource* resource) { resources_.erase(resource); }

  /** Runs `task` from the loop, after the current callback. Dropped when the environment ends. */
  void Defer(std::function<void()> task);

  /** Counts open uv handles; the environment's end waits for the last one. */
  void HandleOpened() { ++open_handles_; }
  void HandleClosed();

  /** Remembers a class so that native code can make objects of it. */
  void DefineClass(ClassId id, Napi::Function constructor);
  /** Makes an object of the class; its constructor takes `payload` with `TakePayload`. */
  Napi::Object Construct(ClassId id, void* payload);
  /** Throws where it was JavaScript that called the constructor. */
  void* TakePayload();
  /** Whether `value` was made by `Construct(id)`: a prototype can be forged, this can't. */
  static bool IsA(Napi::Value value, ClassId id);

  /** Where `WatchSet::Of` keeps the set of this instance while there are watches. */
  std::weak_ptr<WatchSet>& watch_set() { return watch_set_; }

  /** To be sent (also from a signal handler) when a mapping of this instance was poisoned. */
  uv_async_t* poison_signal();

 private:
  struct Handles;

  void RunDeferred();
  void NotifyPoisoned();
  void End(napi_async_cleanup_hook_handle hook);
  void ReleaseClasses();

  napi_env env_;
  uv_loop_t* loop_;
  bool ended_ = false;
  std::set<Resource*> resources_;
  std::deque<std::function<void()>> deferred_;
  std::unique_ptr<Handles> handles_;
  std::weak_ptr<WatchSet> watch_set_;
  int open_handles_ = 0;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  Napi::FunctionReference constructors_[static_cast<int>(ClassId::kCount)];
  void* payload_ = nullptr;
};

}  // namespace vvu
