// A shared mapping of a part of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "instance.h"

namespace vvu {

struct SigbusSlot;

/** Page size that mappings of the file come in: the machine's, or the hugepage size. */
size_t PageSizeOf(int fd);

/**
 * Copies between memory that others change at the same time. Naturally aligned copies of 1, 2, 4
 * and 8 bytes are one access (acquire load, release store): an index or a flag is never torn.
 */
void LoadShared(void* target, const uint8_t* source, size_t size);
void StoreShared(uint8_t* target, const void* source, size_t size);

/**
 * Mapped until `Release`, the last owner or the environment's end, whichever comes first;
 * afterwards every access fails. All of it happens on the instance's thread.
 */
class Mapping : public Resource {
 public:
  /** Throws OUT_OF_RANGE for what lies past the end of the file, BAD_FD_TYPE, or the errno. */
  static std::shared_ptr<Mapping> Create(Instance& instance, int fd, uint64_t offset,
                                         uint64_t length, bool writable);

  /**
   * A part of a BAR through a VFIO device's fd, whose region offsets have no end that could be
   * checked here. Poisoned when the device does not answer any more. Throws the errno.
   */
  static std::shared_ptr<Mapping> CreateDevice(Instance& instance, int fd, uint64_t offset,
                                               uint64_t length);
  /**
   * Anonymous memory that stays where it is and is not inherited by a fork: hugepages, or locked
   * pages that are contiguous where the kernel can make them so. Throws the errno.
   */
  static std::shared_ptr<Mapping> CreateLocked(Instance& instance, uint64_t length, bool hugepages);

  explicit Mapping(Instance& instance);
  ~Mapping() override;

  uint64_t size() const { return size_; }
  uint64_t file_offset() const { return file_offset_; }
  bool writable() const { return writable_; }
  bool released() const { return address_ == nullptr; }
  bool poisoned() const;

  /** The bytes of a range. Throws RELEASED or OUT_OF_RANGE. */
  uint8_t* Range(uint64_t offset, uint64_t length) const;
  /** As `Range`, and throws EACCES where the mapping is read-only. */
  uint8_t* WritableRange(uint64_t offset, uint64_t length) const;

  /** Unmaps. Nothing may use a pointer into it any more. */
  void Release();
  void Shutdown() noexcept override;

 private:
  /** Maps a checked range of a file, shared. */
  static std::shared_ptr<Mapping> CreateShared(Instance& instance, int fd, uint64_t offset,
                                               uint64_t length, size_t page, bool writable);
  /** Maps what `size_` and `file_offset_` say; `fd` is -1 for anonymous memory. */
  void Map(int fd, size_t page, int flags);
  /** From now on a SIGBUS poisons the mapping. */
  void Survive(size_t page);

  std::shared_ptr<Instance> instance_;
  uint8_t* address_ = nullptr;
  uint64_t size_ = 0;
  uint64_t file_offset_ = 0;
  /** Bytes really mapped: `size_` in whole pages. */
  size_t mapped_ = 0;
  bool writable_ = false;
  /** Kept after the release, when there is no slot left to ask. */
  bool was_poisoned_ = false;
  SigbusSlot* slot_ = nullptr;
};

}  // namespace vvu
