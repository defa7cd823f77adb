// What the relay thread does for a signal: signal another eventfd, or store to a register.
#pragma once

#include <cstdint>
#include <memory>

#include "fd_util.h"

namespace vvu {

/** Owned by one binding of the relay; its thread calls `Signal`. */
class RelayTarget {
 public:
  virtual ~RelayTarget() = default;
  /** Must not block and can't fail: there is nobody to tell. */
  virtual void Signal() noexcept = 0;
};

/** Passes the signal on to `eventfd`. */
std::unique_ptr<RelayTarget> SignalTarget(UniqueFd eventfd);

/**
 * Makes one store of `size` bytes (1, 2, 4 or 8, naturally aligned) at `offset` of a BAR: `fd` is a
 * VFIO device, or the BAR's sysfs resource file. Maps the register's page for itself; the fd may be
 * closed afterwards. A register that faults, because its device is gone, is stored to no more.
 * Throws OUT_OF_RANGE or the errno.
 */
std::unique_ptr<RelayTarget> StoreTarget(int fd, uint64_t offset, const uint8_t* bytes,
                                         size_t size);

}  // namespace vvu
