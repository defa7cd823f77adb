#include "views.h"

#include "errors.h"

namespace vvu {

Napi::Value Views::Create(Napi::Env env, uint64_t offset, uint64_t length) {
  if (length > kMaxView) {
    throw Failure("OUT_OF_RANGE", "a view has at most " + std::to_string(kMaxView) + " bytes");
  }
  uint8_t* data = mapping_->WritableRange(offset, length);
  if (length == 0) return Napi::Uint8Array::New(env, 0);
  auto entry = std::make_unique<Entry>(Entry{shared_from_this(), nullptr});
  napi_value buffer;
  if (napi_create_external_arraybuffer(env, data, length, Finalize, entry.get(), &buffer) !=
      napi_ok) {
    throw Failure("ENOTSUP", "this runtime has no external ArrayBuffers");
  }
  napi_create_reference(env, buffer, 0, &entry->weak);
  entries_.insert(entry.release());
  return Napi::Uint8Array::New(env, length, Napi::ArrayBuffer(env, buffer), 0);
}

void Views::Detach(Napi::Env env) {
  const Napi::HandleScope scope(env);
  for (const Entry* entry : entries_) {
    napi_value buffer = nullptr;
    napi_get_reference_value(env, entry->weak, &buffer);
    if (buffer != nullptr) napi_detach_arraybuffer(env, buffer);
  }
}

void Views::Finalize(napi_env env, void*, void* hint) {
  // Runs on the instance's thread, after a collection or after `Detach`.
  const std::unique_ptr<Entry> entry(static_cast<Entry*>(hint));
  entry->owner->entries_.erase(entry.get());
  napi_delete_reference(env, entry->weak);
}

}  // namespace vvu
