// Answers vfio-user region accesses without JavaScript: doorbells and memory windows.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "fd_util.h"
#include "framing.h"
#include "mapping.h"

namespace vvu {

/** The table of one device; sockets share it. Only used on the instance's thread. */
class FastRegions {
 public:
  /**
   * Serves a whole vfio-user message if it lies in the table. True when it did; `reply` is then the
   * message to send, or empty where none was asked for. False leaves the message to JavaScript.
   */
  bool Serve(const Frame& frame, size_t max_message, std::vector<uint8_t>* reply);

  void SetDoorbells(uint32_t region, uint64_t offset, uint64_t stride, uint64_t count);
  /** Duplicates `eventfd`; -1 unbinds. Throws OUT_OF_RANGE, BAD_FD_TYPE or the errno. */
  void SetDoorbell(uint64_t index, int eventfd);
  uint64_t DoorbellCount(uint64_t index) const;

  /** Throws EEXIST where another live window overlaps, RELEASED or OUT_OF_RANGE. */
  void MapWindow(uint32_t region, uint64_t offset, uint64_t length,
                 std::shared_ptr<Mapping> mapping, uint64_t mapping_offset);
  void UnmapWindow(uint32_t region, uint64_t offset);

  void Clear();

 private:
  struct Access;
  struct Doorbell {
    UniqueFd eventfd;
    uint64_t rung = 0;
  };
  struct Window {
    uint64_t length;
    std::shared_ptr<Mapping> mapping;
    uint64_t mapping_offset;
  };
  using Place = std::pair<uint32_t, uint64_t>;

  bool Ring(const Access& access);
  uint8_t* Find(const Access& access) const;
  const Doorbell& At(uint64_t index) const;

  uint32_t doorbell_region_ = 0;
  uint64_t doorbell_offset_ = 0;
  uint64_t doorbell_stride_ = 1;
  std::vector<Doorbell> doorbells_;
  /** By (region, offset), not overlapping. */
  std::map<Place, Window> windows_;
};

}  // namespace vvu
