#include "dma_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "args.h"
#include "errors.h"
#include "fd_util.h"
#include "instance.h"
#include "mapping.h"
#include "memory.h"
#include "wrapped.h"

namespace vvu {
namespace {

// An entry of /proc/self/pagemap: bit 63 says present, bits 0-54 are the page frame number, which
// reads as 0 without CAP_SYS_ADMIN.
constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kFrame = (uint64_t{1} << 55) - 1;

Napi::Value LockedMemory(const Napi::CallbackInfo& info) {
  const uint64_t size = ToInteger(info[0], "size");
  const bool hugepages = ToBool(info[1], "hugepages");
  Instance& instance = Instance::Of(info.Env());
  return Memory::Wrap(instance, Mapping::CreateLocked(instance, size, hugepages));
}

Napi::Value PhysicalPages(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Mapping> mapping = Memory::MappingOf(info[0]);
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t count = (mapping->size() + page - 1) / page;
  const auto first = reinterpret_cast<uintptr_t>(mapping->Range(0, mapping->size())) / page;
  const UniqueFd fd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) throw ErrnoFailure(errno, "open /proc/self/pagemap");
  std::vector<uint64_t> entries(count);
  const auto bytes = static_cast<ssize_t>(count * sizeof(uint64_t));
  const auto at = static_cast<off_t>(first * sizeof(uint64_t));
  const ssize_t taken = pread(fd.get(), entries.data(), static_cast<size_t>(bytes), at);
  if (taken < 0) throw ErrnoFailure(errno, "read /proc/self/pagemap");
  if (taken != bytes) throw Failure("EIO", "/proc/self/pagemap is too short");
  Napi::Float64Array addresses = Napi::Float64Array::New(info.Env(), count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t frame = entries[i] & kFrame;
    if ((entries[i] & kPresent) == 0) throw Failure("EIO", "a locked page is not present");
    if (frame == 0) throw Failure("EPERM", "physical addresses are for root (CAP_SYS_ADMIN)");
    addresses[i] = static_cast<double>(frame * page);
  }
  return addresses;
}

}  // namespace

void DefineDmaFunctions(Napi::Object exports) {
  SetFunction<LockedMemory>(exports, "lockedMemory");
  SetFunction<PhysicalPages>(exports, "physicalPages");
}

}  // namespace vvu
