#include "instance.h"

#include "errors.h"
#include "loop_handle.h"

namespace vvu {
namespace {

// One random upper half for the addon, the class in the lower half.
napi_type_tag TagOf(ClassId id) {
  return {0x5d1c7a0e94b2436fULL, 0x91e4b6f82ad30000ULL + static_cast<uint64_t>(id)};
}

}  // namespace

struct Instance::Handles {
  IdleHandle idle;
  AsyncHandle poison;
};

Instance::Instance(napi_env env, uv_loop_t* loop)
    : env_(env), loop_(loop), handles_(std::make_unique<Handles>()) {}

Instance::~Instance() = default;

void Instance::Create(Napi::Env env) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) {
    throw Napi::Error::New(env, "no event loop in this environment");
  }
  auto* holder = new std::shared_ptr<Instance>(std::make_shared<Instance>(env, loop));
  napi_set_instance_data(
      env, holder,
      [](napi_env, void* data, void*) {
        auto* held = static_cast<std::shared_ptr<Instance>*>(data);
        (*held)->ReleaseClasses();
        delete held;
      },
      nullptr);
  // Asynchronous, because libuv calls close callbacks only from a turn of the loop: a worker whose
  // loop still has handles aborts the process.
  napi_add_async_cleanup_hook(
      env,
      [](napi_async_cleanup_hook_handle hook, void* data) {
        static_cast<Instance*>(data)->End(hook);
      },
      holder->get(), nullptr);
}

Instance& Instance::Of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return **static_cast<std::shared_ptr<Instance>*>(data);
}

void Instance::Defer(std::function<void()> task) {
  if (ended_) return;
  deferred_.push_back(std::move(task));
  IdleHandle& idle = handles_->idle;
  if (!idle.open()) idle.Open(*this, [this] { RunDeferred(); }, uv_idle_init);
  uv_idle_start(idle.get(), IdleHandle::Run);
}

void Instance::RunDeferred() {
  // Only what is queued now: a task that defers again must leave room for the poll phase.
  for (size_t left = deferred_.size(); left > 0 && !deferred_.empty(); --left) {
    const std::function<void()> task = std::move(deferred_.front());
    deferred_.pop_front();
    task();
  }
  if (deferred_.empty() && handles_->idle.open()) uv_idle_stop(handles_->idle.get());
}

void Instance::HandleClosed() {
  if (--open_handles_ == 0 && hook_ != nullptr) {
    napi_remove_async_cleanup_hook(std::exchange(hook_, nullptr));
  }
}

void Instance::End(napi_async_cleanup_hook_handle hook) {
  ended_ = true;
  while (!resources_.empty()) {
    Resource* resource = *resources_.begin();
    resources_.erase(resources_.begin());
    resource->Shutdown();
  }
  deferred_.clear();
  handles_->idle.Close();
  handles_->poison.Close();
  hook_ = hook;
  // Balanced, so that with no handle left the hook is removed here.
  HandleOpened();
  HandleClosed();
}

void Instance::ReleaseClasses() {
  for (Napi::FunctionReference& constructor : constructors_) constructor.Reset();
}

void Instance::DefineClass(ClassId id, Napi::Function constructor) {
  constructors_[static_cast<int>(id)] = Napi::Persistent(constructor);
}

Napi::Object Instance::Construct(ClassId id, void* payload) {
  payload_ = payload;
  napi_value object = nullptr;
  const napi_status status =
      napi_new_instance(env_, constructors_[static_cast<int>(id)].Value(), 0, nullptr, &object);
  payload_ = nullptr;
  if (status != napi_ok) throw Napi::Error::New(env_);
  const napi_type_tag tag = TagOf(id);
  napi_type_tag_object(env_, object, &tag);
  return Napi::Object(env_, object);
}

void* Instance::TakePayload() {
  void* payload = std::exchange(payload_, nullptr);
  if (payload == nullptr) throw Napi::TypeError::New(env_, "Illegal constructor");
  return payload;
}

bool Instance::IsA(Napi::Value value, ClassId id) {
  if (!value.IsObject()) return false;
  const napi_type_tag tag = TagOf(id);
  bool matches = false;
  return napi_check_object_type_tag(value.Env(), value, &tag, &matches) == napi_ok && matches;
}

uv_async_t* Instance::poison_signal() {
  AsyncHandle& poison = handles_->poison;
  if (!poison.open()) {
    const int status = poison.Open(
        *this, [this] { NotifyPoisoned(); },
        [](uv_loop_t* loop, uv_async_t* handle) {
          return uv_async_init(loop, handle, AsyncHandle::Run);
        });
    if (status != 0) throw ErrnoFailure(-status, "uv_async_init");
    // A mapping alone is no reason for the process to stay.
    uv_unref(reinterpret_cast<uv_handle_t*>(poison.get()));
  }
  return poison.get();
}

void Instance::NotifyPoisoned() {
  const std::set<Resource*> snapshot = resources_;
  for (Resource* resource : snapshot) {
    if (resources_.count(resource) != 0) resource->OnPoison();
  }
}

}  // namespace vvu
