#include "mapping.h"

#include <linux/magic.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "errors.h"
#include "sigbus.h"

namespace vvu {
namespace {

constexpr size_t kHugePage = 2 << 20;

template <typename Word>
bool Aligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % sizeof(Word) == 0;
}

template <typename Word>
void LoadWord(void* target, const uint8_t* source) {
  const Word value = __atomic_load_n(reinterpret_cast<const Word*>(source), __ATOMIC_ACQUIRE);
  std::memcpy(target, &value, sizeof(value));
}

template <typename Word>
void StoreWord(uint8_t* target, const void* source) {
  Word value;
  std::memcpy(&value, source, sizeof(value));
  __atomic_store_n(reinterpret_cast<Word*>(target), value, __ATOMIC_RELEASE);
}

/** Checks that the file has the range; mapping more would only move the failure to a SIGBUS. */
void CheckRange(int fd, uint64_t offset, uint64_t length, size_t page) {
  struct stat info;
  if (fstat(fd, &info) != 0) throw ErrnoFailure(errno, "fstat");
  if (!S_ISREG(info.st_mode)) throw Failure("BAD_FD_TYPE", "only files can be mapped");
  const uint64_t end = static_cast<uint64_t>(info.st_size);
  if (length == 0) throw Failure("OUT_OF_RANGE", "an empty range can't be mapped");
  if (offset % page != 0) {
    throw Failure("OUT_OF_RANGE", "file offset " + std::to_string(offset) +
                                      " is no multiple of the page size " + std::to_string(page));
  }
  if (offset > end || length > end - offset) {
    throw Failure("OUT_OF_RANGE", "range of " + std::to_string(length) + " bytes at " +
                                      std::to_string(offset) + " ends behind the file's " +
                                      std::to_string(end) + " bytes");
  }
}

}  // namespace

size_t PageSizeOf(int fd) {
  struct statfs info;
  if (fstatfs(fd, &info) == 0 && info.f_type == HUGETLBFS_MAGIC) {
    return static_cast<size_t>(info.f_bsize);
  }
  return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

void LoadShared(void* target, const uint8_t* source, size_t size) {
  if (size == 1) return LoadWord<uint8_t>(target, source);
  if (size == 2 && Aligned<uint16_t>(source)) return LoadWord<uint16_t>(target, source);
  if (size == 4 && Aligned<uint32_t>(source)) return LoadWord<uint32_t>(target, source);
  if (size == 8 && Aligned<uint64_t>(source)) return LoadWord<uint64_t>(target, source);
  if (size > 0) std::memmove(target, source, size);
}

void StoreShared(uint8_t* target, const void* source, size_t size) {
  if (size == 1) return StoreWord<uint8_t>(target, source);
  if (size == 2 && Aligned<uint16_t>(target)) return StoreWord<uint16_t>(target, source);
  if (size == 4 && Aligned<uint32_t>(target)) return StoreWord<uint32_t>(target, source);
  if (size == 8 && Aligned<uint64_t>(target)) return StoreWord<uint64_t>(target, source);
  if (size > 0) std::memmove(target, source, size);
}

std::shared_ptr<Mapping> Mapping::Create(Instance& instance, int fd, uint64_t offset,
                                         uint64_t length, bool writable) {
  const size_t page = PageSizeOf(fd);
  CheckRange(fd, offset, length, page);
  return CreateShared(instance, fd, offset, length, page, writable);
}

std::shared_ptr<Mapping> Mapping::CreateDevice(Instance& instance, int fd, uint64_t offset,
                                               uint64_t length) {
  if (length == 0) throw Failure("OUT_OF_RANGE", "an empty range can't be mapped");
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return CreateShared(instance, fd, offset, length, page, true);
}

std::shared_ptr<Mapping> Mapping::CreateShared(Instance& instance, int fd, uint64_t offset,
                                               uint64_t length, size_t page, bool writable) {
  auto mapping = std::make_shared<Mapping>(instance);
  mapping->size_ = length;
  mapping->file_offset_ = offset;
  mapping->writable_ = writable;
  mapping->Map(fd, page, MAP_SHARED);
  mapping->Survive(page);
  return mapping;
}

std::shared_ptr<Mapping> Mapping::CreateLocked(Instance& instance, uint64_t length,
                                               bool hugepages) {
  if (length == 0) throw Failure("OUT_OF_RANGE", "an empty range can't be mapped");
  auto mapping = std::make_shared<Mapping>(instance);
  mapping->size_ = length;
  mapping->writable_ = true;
  const int huge = hugepages ? MAP_HUGETLB | MAP_HUGE_2MB : 0;
  mapping->Map(-1, kHugePage, MAP_PRIVATE | MAP_ANONYMOUS | huge);
  uint8_t* address = mapping->address_;
  const size_t size = mapping->mapped_;
  // A child's copy-on-write would move the pages. Without hugepages the kernel may still find
  // contiguous ones; that it can't is no failure here.
  if (madvise(address, size, MADV_DONTFORK) != 0) throw ErrnoFailure(errno, "madvise");
  if (!hugepages) madvise(address, size, MADV_HUGEPAGE);
  if (mlock(address, size) != 0) throw ErrnoFailure(errno, "mlock");
  return mapping;
}

void Mapping::Map(int fd, size_t page, int flags) {
  mapped_ = static_cast<size_t>((size_ + page - 1) / page * page);
  const int protection = writable_ ? PROT_READ | PROT_WRITE : PROT_READ;
  void* address = mmap(nullptr, mapped_, protection, flags, fd, static_cast<off_t>(file_offset_));
  if (address == MAP_FAILED) throw ErrnoFailure(errno, "mmap");
  address_ = static_cast<uint8_t*>(address);
}

void Mapping::Survive(size_t page) {
  const int protection = writable_ ? PROT_READ | PROT_WRITE : PROT_READ;
  slot_ = RegisterSigbusRegion(address_, mapped_, page, protection, instance_->poison_signal());
}

Mapping::Mapping(Instance& instance) : instance_(instance.shared_from_this()) {
  instance_->Add(this);
}

Mapping::~Mapping() { Release(); }

bool Mapping::poisoned() const { return was_poisoned_ || (slot_ != nullptr && IsPoisoned(slot_)); }

uint8_t* Mapping::Range(uint64_t offset, uint64_t length) const {
  if (released()) throw Failure("RELEASED", "the memory was released");
  // In this order nothing can overflow.
  if (offset > size_ || length > size_ - offset) {
    throw Failure("OUT_OF_RANGE", std::to_string(length) + " bytes at " + std::to_string(offset) +
                                      " of a region of " + std::to_string(size_));
  }
  return address_ + offset;
}

uint8_t* Mapping::WritableRange(uint64_t offset, uint64_t length) const {
  uint8_t* range = Range(offset, length);
  if (!writable_) throw Failure("EACCES", "the memory is mapped read-only");
  return range;
}

void Mapping::Release() {
  instance_->Remove(this);
  if (slot_ != nullptr) {
    was_poisoned_ = IsPoisoned(slot_);
    UnregisterSigbusRegion(std::exchange(slot_, nullptr));
  }
  if (address_ != nullptr) munmap(std::exchange(address_, nullptr), mapped_);
}

void Mapping::Shutdown() noexcept { Release(); }

}  // namespace vvu
