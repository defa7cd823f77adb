#include "relay_target.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "errors.h"
#include "eventfd.h"
#include "mapping.h"
#include "sigbus.h"

namespace vvu {
namespace {

class EventFdTarget : public RelayTarget {
 public:
  explicit EventFdTarget(UniqueFd eventfd) : eventfd_(std::move(eventfd)) {}
  void Signal() noexcept override { SignalEventFd(eventfd_.get()); }

 private:
  UniqueFd eventfd_;
};

// A mapping of its own, because nobody may unmap under the thread; a doorbell's page costs nothing.
class RegisterTarget : public RelayTarget {
 public:
  RegisterTarget(void* page, size_t page_size, size_t at, const uint8_t* bytes, size_t size)
      : page_(static_cast<uint8_t*>(page)), page_size_(page_size), at_(at), size_(size) {
    std::memcpy(value_, bytes, size);
    slot_ = RegisterSigbusRegion(page, page_size, page_size, PROT_READ | PROT_WRITE, nullptr);
  }

  ~RegisterTarget() override {
    UnregisterSigbusRegion(slot_);
    munmap(page_, page_size_);
  }

  void Signal() noexcept override { StoreShared(page_ + at_, value_, size_); }

 private:
  uint8_t* page_;
  size_t page_size_;
  size_t at_;
  size_t size_;
  uint8_t value_[8];
  SigbusSlot* slot_;
};

}  // namespace

std::unique_ptr<RelayTarget> SignalTarget(UniqueFd eventfd) {
  return std::make_unique<EventFdTarget>(std::move(eventfd));
}

std::unique_ptr<RelayTarget> StoreTarget(int fd, uint64_t offset, const uint8_t* bytes,
                                         size_t size) {
  if ((size != 1 && size != 2 && size != 4 && size != 8) || offset % size != 0) {
    throw Failure("OUT_OF_RANGE", "a register has 1, 2, 4 or 8 bytes and is naturally aligned");
  }
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto start = static_cast<off_t>(offset / page * page);
  void* address = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, start);
  if (address == MAP_FAILED) throw ErrnoFailure(errno, "mmap of a register");
  try {
    return std::make_unique<RegisterTarget>(address, page, offset % page, bytes, size);
  } catch (...) {
    munmap(address, page);
    throw;
  }
}

}  // namespace vvu
