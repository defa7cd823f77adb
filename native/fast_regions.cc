#include "fast_regions.h"

#include <cstring>

#include "errors.h"
#include "eventfd.h"

namespace vvu {
namespace {

// vfio-user: message header (16 bytes) and the region access that follows it. Native byte order.
struct Header {
  uint16_t id;
  uint16_t command;
  uint32_t size;
  uint32_t flags;
  uint32_t error;
};
struct RegionAccess {
  uint64_t offset;
  uint32_t region;
  uint32_t count;
};
static_assert(sizeof(Header) == 16 && sizeof(RegionAccess) == 16, "wire layout");

constexpr uint16_t kRegionRead = 9;
constexpr uint16_t kRegionWrite = 10;
constexpr uint32_t kFlagReply = 1;
constexpr uint32_t kFlagNoReply = 1 << 4;
constexpr size_t kPrefix = sizeof(Header) + sizeof(RegionAccess);
/** An eventfd per queue and then some; far below what a process may open. */
constexpr uint64_t kMaxDoorbells = 65536;
constexpr uint64_t kSafeInteger = (uint64_t{1} << 53) - 1;

}  // namespace

/** One well-formed REGION_READ or REGION_WRITE. */
struct FastRegions::Access {
  Header header;
  RegionAccess place;
  const uint8_t* data;

  bool write() const { return header.command == kRegionWrite; }
  bool wants_reply() const { return (header.flags & kFlagNoReply) == 0; }

  /** False for any other message, and for one that JavaScript should find fault with. */
  static bool Parse(const Frame& frame, Access* access) {
    if (frame.size < kPrefix || !frame.fds.empty()) return false;
    std::memcpy(&access->header, frame.data.get(), sizeof(Header));
    const Header& header = access->header;
    if (header.command != kRegionRead && header.command != kRegionWrite) return false;
    if ((header.flags & ~kFlagNoReply) != 0) return false;
    if (!access->write() && !access->wants_reply()) return false;
    std::memcpy(&access->place, frame.data.get() + sizeof(Header), sizeof(RegionAccess));
    access->data = frame.data.get() + kPrefix;
    const RegionAccess& place = access->place;
    const size_t data_size = access->write() ? place.count : 0;
    if (header.size != frame.size || frame.size - kPrefix != data_size) return false;
    return place.count > 0 && place.offset <= UINT64_MAX - place.count;
  }
};

bool FastRegions::Serve(const Frame& frame, size_t max_message, std::vector<uint8_t>* reply) {
  Access access;
  if (!Access::Parse(frame, &access)) return false;
  const size_t data_size = access.write() ? 0 : access.place.count;
  if (data_size > max_message - kPrefix) return false;
  reply->clear();
  if (!access.write() || !Ring(access)) {
    uint8_t* memory = Find(access);
    if (memory == nullptr) return false;
    if (access.write()) {
      StoreShared(memory, access.data, access.place.count);
    } else {
      reply->resize(kPrefix + data_size);
      LoadShared(reply->data() + kPrefix, memory, data_size);
    }
  }
  if (!access.wants_reply()) return true;
  reply->resize(kPrefix + data_size);
  const Header header = {access.header.id, access.header.command,
                         static_cast<uint32_t>(reply->size()), kFlagReply, 0};
  std::memcpy(reply->data(), &header, sizeof(header));
  std::memcpy(reply->data() + sizeof(header), &access.place, sizeof(access.place));
  return true;
}

bool FastRegions::Ring(const Access& access) {
  const RegionAccess& place = access.place;
  if (doorbells_.empty() || place.region != doorbell_region_ || place.offset < doorbell_offset_) {
    return false;
  }
  const uint64_t distance = place.offset - doorbell_offset_;
  const uint64_t index = distance / doorbell_stride_;
  if (index >= doorbells_.size()) return false;
  if (distance % doorbell_stride_ + place.count > doorbell_stride_) return false;
  Doorbell& doorbell = doorbells_[index];
  ++doorbell.rung;
  if (doorbell.eventfd.valid()) SignalEventFd(doorbell.eventfd.get());
  return true;
}

uint8_t* FastRegions::Find(const Access& access) const {
  const RegionAccess& place = access.place;
  auto after = windows_.upper_bound({place.region, place.offset});
  if (after == windows_.begin()) return nullptr;
  const auto& [start, window] = *std::prev(after);
  if (start.first != place.region) return nullptr;
  const uint64_t inside = place.offset - start.second;
  if (inside > window.length || place.count > window.length - inside) return nullptr;
  // A released mapping has fallen out of the table, though its entry is still there.
  const Mapping& mapping = *window.mapping;
  if (mapping.released() || (access.write() && !mapping.writable())) return nullptr;
  return mapping.Range(window.mapping_offset + inside, place.count);
}

void FastRegions::SetDoorbells(uint32_t region, uint64_t offset, uint64_t stride, uint64_t count) {
  if (stride == 0 || count > kMaxDoorbells || stride > kSafeInteger / (count + 1)) {
    throw Failure("OUT_OF_RANGE", "doorbells: stride " + std::to_string(stride) + ", count " +
                                      std::to_string(count));
  }
  doorbell_region_ = region;
  doorbell_offset_ = offset;
  doorbell_stride_ = stride;
  doorbells_.clear();
  doorbells_.resize(count);
}

void FastRegions::SetDoorbell(uint64_t index, int eventfd) {
  At(index);
  doorbells_[index].eventfd = eventfd < 0 ? UniqueFd() : DupEventFd(eventfd);
}

uint64_t FastRegions::DoorbellCount(uint64_t index) const { return At(index).rung; }

const FastRegions::Doorbell& FastRegions::At(uint64_t index) const {
  if (index >= doorbells_.size()) {
    throw Failure("OUT_OF_RANGE",
                  "doorbell " + std::to_string(index) + " of " + std::to_string(doorbells_.size()));
  }
  return doorbells_[index];
}

void FastRegions::MapWindow(uint32_t region, uint64_t offset, uint64_t length,
                            std::shared_ptr<Mapping> mapping, uint64_t mapping_offset) {
  mapping->Range(mapping_offset, length);
  if (length == 0) throw Failure("OUT_OF_RANGE", "an empty window");
  // The first entry that ends behind our start is the one before ours, or a later one.
  auto entry = windows_.upper_bound({region, offset});
  if (entry != windows_.begin()) --entry;
  while (entry != windows_.end()) {
    const auto& [start, window] = *entry;
    const bool behind =
        start.first > region || (start.first == region && start.second >= offset + length);
    if (behind) break;
    const bool before = start.first < region || start.second + window.length <= offset;
    if (before) {
      ++entry;
    } else if (window.mapping->released()) {
      entry = windows_.erase(entry);
    } else {
      throw Failure("EEXIST", "a window lies at " + std::to_string(start.second) + " of region " +
                                  std::to_string(region));
    }
  }
  windows_.emplace(Place{region, offset}, Window{length, std::move(mapping), mapping_offset});
}

void FastRegions::UnmapWindow(uint32_t region, uint64_t offset) {
  windows_.erase({region, offset});
}

void FastRegions::Clear() {
  doorbells_.clear();
  windows_.clear();
}

}  // namespace vvu
