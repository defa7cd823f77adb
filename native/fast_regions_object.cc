#include "fast_regions_object.h"

#include <limits>

#include "args.h"
#include "memory.h"

namespace vvu {
namespace {

uint32_t ToRegion(Napi::Value value) {
  constexpr uint64_t kMax = std::numeric_limits<uint32_t>::max();
  return static_cast<uint32_t>(ToInteger(value, "region", kMax));
}

}  // namespace

void FastRegionsObject::Define(Instance& instance) {
  using Self = FastRegionsObject;
  instance.DefineClass(
      ClassId::kFastRegions,
      DefineClass(
          instance.env(), "NativeFastRegions",
          {Method<&Self::SetDoorbells>("setDoorbells"), Method<&Self::SetDoorbell>("setDoorbell"),
           Method<&Self::DoorbellCount>("doorbellCount"), Method<&Self::MapWindow>("mapWindow"),
           Method<&Self::UnmapWindow>("unmapWindow"), Method<&Self::Close>("close")}));
}

Napi::Value FastRegionsObject::Create(const Napi::CallbackInfo& info) {
  auto table = std::make_shared<FastRegions>();
  return Instance::Of(info.Env()).Construct(ClassId::kFastRegions, &table);
}

std::shared_ptr<FastRegions> FastRegionsObject::TableOf(Napi::Value value) {
  if (!Instance::IsA(value, ClassId::kFastRegions)) {
    throw Failure("ERR_INVALID_ARG_TYPE", "regions must come from createFastRegions");
  }
  FastRegionsObject* object = Unwrap(value.As<Napi::Object>());
  object->table();
  return object->table_;
}

FastRegionsObject::FastRegionsObject(const Napi::CallbackInfo& info)
    : Wrapped<FastRegionsObject>(info) {
  void* payload = Instance::Of(info.Env()).TakePayload();
  table_ = *static_cast<std::shared_ptr<FastRegions>*>(payload);
}

FastRegions& FastRegionsObject::table() const {
  if (table_ == nullptr) throw Failure("RELEASED", "the fast regions were closed");
  return *table_;
}

Napi::Value FastRegionsObject::SetDoorbells(const Napi::CallbackInfo& info) {
  table().SetDoorbells(ToRegion(info[0]), ToInteger(info[1], "offset"),
                       ToInteger(info[2], "stride"), ToInteger(info[3], "count"));
  return info.Env().Undefined();
}

Napi::Value FastRegionsObject::SetDoorbell(const Napi::CallbackInfo& info) {
  const uint64_t index = ToInteger(info[0], "index");
  const bool unbind = info[1].IsNumber() && info[1].As<Napi::Number>().DoubleValue() == -1;
  table().SetDoorbell(index, unbind ? -1 : ToFd(info[1]));
  return info.Env().Undefined();
}

Napi::Value FastRegionsObject::DoorbellCount(const Napi::CallbackInfo& info) {
  const uint64_t count = table().DoorbellCount(ToInteger(info[0], "index"));
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value FastRegionsObject::MapWindow(const Napi::CallbackInfo& info) {
  table().MapWindow(ToRegion(info[0]), ToInteger(info[1], "offset"), ToInteger(info[2], "length"),
                    Memory::MappingOf(info[3]), ToInteger(info[4], "memoryOffset"));
  return info.Env().Undefined();
}

Napi::Value FastRegionsObject::UnmapWindow(const Napi::CallbackInfo& info) {
  table().UnmapWindow(ToRegion(info[0]), ToInteger(info[1], "offset"));
  return info.Env().Undefined();
}

Napi::Value FastRegionsObject::Close(const Napi::CallbackInfo& info) {
  if (table_ != nullptr) table_->Clear();
  table_.reset();
  return info.Env().Undefined();
}

}  // namespace vvu
