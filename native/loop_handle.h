// Owners of libuv handles: closing is asynchronous, so the handle outlives its owner.
#pragma once

#include <uv.h>

#include <functional>
#include <memory>

#include "instance.h"

namespace vvu {

/**
 * Owns one uv handle of type `Handle`. `Close` (or the destructor) ends its callbacks at once; the
 * memory is freed when libuv has let go of it, which the environment's end waits for.
 */
template <typename Handle, typename... Args>
class LoopHandle {
 public:
  using Action = std::function<void(Args...)>;

  LoopHandle() = default;
  LoopHandle(const LoopHandle&) = delete;
  LoopHandle& operator=(const LoopHandle&) = delete;
  ~LoopHandle() { Close(); }

  bool open() const { return box_ != nullptr; }
  Handle* get() const { return &box_->handle; }

  /** `init` makes the handle and returns libuv's status; `action` is what callbacks run. */
  template <typename Init>
  int Open(Instance& instance, Action action, Init init) {
    auto box = std::make_unique<Box>();
    const int status = init(instance.loop(), &box->handle);
    if (status != 0) return status;
    box->instance = instance.shared_from_this();
    box->action = std::move(action);
    box->handle.data = box.get();
    instance.HandleOpened();
    box_ = box.release();
    return 0;
  }

  void Close() {
    if (box_ == nullptr) return;
    Box* box = box_;
    box_ = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&box->handle), [](uv_handle_t* handle) {
      std::unique_ptr<Box> last(static_cast<Box*>(handle->data));
      last->instance->HandleClosed();
    });
  }

  /** The function to give to libuv as the handle's callback. */
  static void Run(Handle* handle, Args... args) {
    // An action may close and destroy the owner: the box, and so the action, stays until the
    // close callback.
    static_cast<Box*>(handle->data)->action(args...);
  }

 private:
  struct Box {
    Handle handle;
    std::shared_ptr<Instance> instance;
    Action action;
  };

  Box* box_ = nullptr;
};

using PollHandle = LoopHandle<uv_poll_t, int, int>;
using TimerHandle = LoopHandle<uv_timer_t>;
using IdleHandle = LoopHandle<uv_idle_t>;
using AsyncHandle = LoopHandle<uv_async_t>;

}  // namespace vvu
