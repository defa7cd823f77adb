#include "memory.h"

#include <cstring>
#include <limits>

#include "args.h"
#include "callback.h"
#include "errors.h"

namespace vvu {
namespace {

// Kept as a property, not as a strong reference: a callback that holds its memory, as closures do,
// then doesn't keep both alive for ever.
constexpr char kOnPoisoned[] = "onPoisoned";

struct Payload {
  std::shared_ptr<Instance> instance;
  std::shared_ptr<Mapping> mapping;
};

template <typename Word>
void CheckAligned(const uint8_t* address) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(Word) != 0) {
    throw Failure("OUT_OF_RANGE", "the offset is not aligned to " + std::to_string(sizeof(Word)));
  }
}

}  // namespace

void Memory::Define(Instance& instance) {
  instance.DefineClass(
      ClassId::kMemory,
      DefineClass(
          instance.env(), "NativeMemory",
          {Getter<&Memory::Size>("size"), Getter<&Memory::FileOffset>("fileOffset"),
           Getter<&Memory::Writable>("writable"), Getter<&Memory::Poisoned>("poisoned"),
           Getter<&Memory::Released>("released"), Method<&Memory::Read>("read"),
           Method<&Memory::ReadInto>("readInto"), Method<&Memory::Write>("write"),
           Method<&Memory::CopyFrom>("copyFrom"), Method<&Memory::Fill>("fill"),
           Method<&Memory::View>("view"), Method<&Memory::Load<uint16_t>>("loadU16"),
           Method<&Memory::Load<uint32_t>>("loadU32"), Method<&Memory::Store<uint16_t>>("storeU16"),
           Method<&Memory::Store<uint32_t>>("storeU32"), Method<&Memory::OrByte>("orByte"),
           Method<&Memory::Release>("release")}));
}

Napi::Value Memory::Map(const Napi::CallbackInfo& info) {
  const int fd = ToFd(info[0]);
  const Napi::Object options = ToObject(info[1], "options");
  const uint64_t offset = ToInteger(options.Get("offset"), "offset");
  const uint64_t length = ToInteger(options.Get("length"), "length");
  const bool writable = ToBool(options.Get("writable"), "writable");
  const Napi::Value on_poisoned = options.Get("onPoisoned");
  if (!on_poisoned.IsUndefined()) ToFunction(on_poisoned, "onPoisoned");
  Instance& instance = Instance::Of(info.Env());
  Napi::Object memory = Wrap(instance, Mapping::Create(instance, fd, offset, length, writable));
  if (!on_poisoned.IsUndefined()) {
    memory.DefineProperty(Napi::PropertyDescriptor::Value(kOnPoisoned, on_poisoned, napi_default));
  }
  return memory;
}

Napi::Value Memory::MapDevice(const Napi::CallbackInfo& info) {
  const int fd = ToFd(info[0]);
  const uint64_t offset = ToInteger(info[1], "offset");
  const uint64_t length = ToInteger(info[2], "length");
  Instance& instance = Instance::Of(info.Env());
  return Wrap(instance, Mapping::CreateDevice(instance, fd, offset, length));
}

Napi::Object Memory::Wrap(Instance& instance, std::shared_ptr<Mapping> mapping) {
  Payload payload{instance.shared_from_this(), std::move(mapping)};
  return instance.Construct(ClassId::kMemory, &payload);
}

std::shared_ptr<Mapping> Memory::MappingOf(Napi::Value value) {
  if (!Instance::IsA(value, ClassId::kMemory)) {
    throw Failure("ERR_INVALID_ARG_TYPE", "the memory must come from map");
  }
  return Unwrap(value.As<Napi::Object>())->mapping_;
}

Memory::Memory(const Napi::CallbackInfo& info) : Wrapped<Memory>(info) {
  auto* payload = static_cast<Payload*>(Instance::Of(info.Env()).TakePayload());
  instance_ = payload->instance;
  mapping_ = payload->mapping;
  views_ = std::make_shared<Views>(mapping_);
  instance_->Add(this);
}

Memory::~Memory() {
  if (instance_ != nullptr) instance_->Remove(this);
}

void Memory::OnPoison() {
  if (poison_told_ || !mapping_->poisoned()) return;
  poison_told_ = true;
  const Napi::Env env = Env();
  const Napi::HandleScope scope(env);
  const Napi::Object self = Value();
  // Collected, or about to be: then there is nobody to tell.
  if (self.IsEmpty()) return;
  napi_value callback = nullptr;
  napi_get_named_property(env, self, kOnPoisoned, &callback);
  if (callback == nullptr || !Napi::Value(env, callback).IsFunction()) return;
  CallbackContext context;
  context.Open(self, "VVU_POISONED");
  context.Call(self, callback, {});
}

Napi::Value Memory::Size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(mapping_->size()));
}

Napi::Value Memory::FileOffset(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(mapping_->file_offset()));
}

Napi::Value Memory::Writable(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), mapping_->writable());
}

Napi::Value Memory::Poisoned(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), mapping_->poisoned());
}

Napi::Value Memory::Released(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), mapping_->released());
}

Napi::Value Memory::Read(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToInteger(info[0], "offset");
  const uint64_t length = ToInteger(info[1], "length");
  const uint8_t* source = mapping_->Range(offset, length);
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_create_buffer(info.Env(), length, &data, &buffer) != napi_ok) {
    throw Failure("ENOMEM", "no Buffer of " + std::to_string(length) + " bytes");
  }
  LoadShared(data, source, length);
  return Napi::Value(info.Env(), buffer);
}

Napi::Value Memory::ReadInto(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToInteger(info[0], "offset");
  const Bytes target = ToBytes(info[1], "target");
  LoadShared(target.data, mapping_->Range(offset, target.size), target.size);
  return info.Env().Undefined();
}

Napi::Value Memory::Write(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToInteger(info[0], "offset");
  const Bytes bytes = ToBytes(info[1], "bytes");
  StoreShared(mapping_->WritableRange(offset, bytes.size), bytes.data, bytes.size);
  return info.Env().Undefined();
}

Napi::Value Memory::CopyFrom(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Mapping> source = MappingOf(info[0]);
  const uint64_t source_offset = ToInteger(info[1], "sourceOffset");
  const uint64_t offset = ToInteger(info[2], "offset");
  const uint64_t length = ToInteger(info[3], "length");
  const uint8_t* from = source->Range(source_offset, length);
  uint8_t* to = mapping_->WritableRange(offset, length);
  if (length > 0) std::memmove(to, from, length);
  return info.Env().Undefined();
}

Napi::Value Memory::Fill(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToInteger(info[0], "offset");
  const uint64_t length = ToInteger(info[1], "length");
  const uint64_t value = ToInteger(info[2], "value", 255);
  uint8_t* target = mapping_->WritableRange(offset, length);
  if (length > 0) std::memset(target, static_cast<int>(value), length);
  return info.Env().Undefined();
}

Napi::Value Memory::View(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToInteger(info[0], "offset");
  const uint64_t length = ToInteger(info[1], "length");
  return views_->Create(info.Env(), offset, length);
}

template <typename Word>
Napi::Value Memory::Load(const Napi::CallbackInfo& info) {
  const uint8_t* address = mapping_->Range(ToInteger(info[0], "offset"), sizeof(Word));
  CheckAligned<Word>(address);
  Word value;
  LoadShared(&value, address, sizeof(value));
  return Napi::Number::New(info.Env(), value);
}

template <typename Word>
Napi::Value Memory::Store(const Napi::CallbackInfo& info) {
  constexpr uint64_t kMax = std::numeric_limits<Word>::max();
  const uint64_t offset = ToInteger(info[0], "offset");
  const auto value = static_cast<Word>(ToInteger(info[1], "value", kMax));
  uint8_t* address = mapping_->WritableRange(offset, sizeof(Word));
  CheckAligned<Word>(address);
  StoreShared(address, &value, sizeof(value));
  return info.Env().Undefined();
}

Napi::Value Memory::OrByte(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToInteger(info[0], "offset");
  const auto bits = static_cast<uint8_t>(ToInteger(info[1], "bits", 255));
  uint8_t* address = mapping_->WritableRange(offset, 1);
  const uint8_t before = __atomic_fetch_or(address, bits, __ATOMIC_SEQ_CST);
  return Napi::Number::New(info.Env(), before);
}

Napi::Value Memory::Release(const Napi::CallbackInfo& info) {
  views_->Detach(info.Env());
  mapping_->Release();
  return info.Env().Undefined();
}

}  // namespace vvu
