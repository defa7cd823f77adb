#include <fcntl.h>
#include <linux/vfio.h>

#include <cstring>
#include <vector>

#include "args.h"
#include "vfio.h"
#include "vfio_ioctl.h"
#include "wrapped.h"

namespace vvu {
namespace {

/** More than any function has; keeps a mistake from becoming a huge allocation. */
constexpr uint32_t kMaxVectors = 2048;

// VFIO_DEVICE_FEATURE_DMA_BUF of Linux 6.19, restated for older headers: the operation's number,
// and its structure with one range behind struct vfio_device_feature.
constexpr __u32 kFeatureDmaBuf = 11;

struct ExportRegion {
  __u32 argsz;
  __u32 flags;
  __u32 region_index;
  __u32 open_flags;
  __u32 buffer_flags;
  __u32 ranges;
  __u64 offset;
  __u64 length;
};

__u32 ToIndex(Napi::Value value, const char* name) {
  return static_cast<__u32>(ToInteger(value, name, ~uint32_t{0}));
}

Napi::Value DeviceInfo(const Napi::CallbackInfo& info) {
  vfio_device_info device{};
  device.argsz = sizeof(device);
  Ioctl(ToFd(info[0]), VFIO_DEVICE_GET_INFO, &device, "VFIO_DEVICE_GET_INFO");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("flags", device.flags);
  result.Set("regions", device.num_regions);
  result.Set("irqs", device.num_irqs);
  return result;
}

Napi::Value RegionInfo(const Napi::CallbackInfo& info) {
  vfio_region_info region{};
  region.argsz = sizeof(region);
  region.index = ToIndex(info[1], "index");
  Ioctl(ToFd(info[0]), VFIO_DEVICE_GET_REGION_INFO, &region, "VFIO_DEVICE_GET_REGION_INFO");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("flags", region.flags);
  result.Set("size", static_cast<double>(region.size));
  result.Set("offset", static_cast<double>(region.offset));
  return result;
}

Napi::Value IrqInfo(const Napi::CallbackInfo& info) {
  vfio_irq_info irq{};
  irq.argsz = sizeof(irq);
  irq.index = ToIndex(info[1], "index");
  Ioctl(ToFd(info[0]), VFIO_DEVICE_GET_IRQ_INFO, &irq, "VFIO_DEVICE_GET_IRQ_INFO");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("flags", irq.flags);
  result.Set("count", irq.count);
  return result;
}

void SetIrqs(int device, const vfio_irq_set& head, const std::vector<int32_t>& fds) {
  std::vector<uint8_t> bytes(sizeof(head) + fds.size() * sizeof(int32_t));
  vfio_irq_set set = head;
  set.argsz = static_cast<__u32>(bytes.size());
  std::memcpy(bytes.data(), &set, sizeof(set));
  if (!fds.empty()) std::memcpy(bytes.data() + sizeof(set), fds.data(), fds.size() * sizeof(int));
  // A positive value is no success: so many vectors could be had, and none are set up.
  const int available = Ioctl(device, VFIO_DEVICE_SET_IRQS, bytes.data(), "VFIO_DEVICE_SET_IRQS");
  if (available > 0) {
    throw Failure("ENOSPC", "only " + std::to_string(available) + " interrupt vectors are left");
  }
}

Napi::Value SetIrqEventFds(const Napi::CallbackInfo& info) {
  if (!info[3].IsArray()) throw Failure("ERR_INVALID_ARG_TYPE", "eventfds must be an array");
  const Napi::Array list = info[3].As<Napi::Array>();
  const uint32_t count = list.Length();
  if (count == 0 || count > kMaxVectors) throw Failure("OUT_OF_RANGE", "no such number of vectors");
  std::vector<int32_t> fds;
  for (uint32_t i = 0; i < count; ++i) {
    const Napi::Value fd = list.Get(i);
    // -1 takes the eventfd of a vector away.
    const bool none = fd.IsNumber() && fd.As<Napi::Number>().DoubleValue() == -1;
    fds.push_back(none ? -1 : ToFd(fd));
  }
  vfio_irq_set set{};
  set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  set.index = ToIndex(info[1], "index");
  set.start = ToIndex(info[2], "start");
  set.count = count;
  SetIrqs(ToFd(info[0]), set, fds);
  return info.Env().Undefined();
}

Napi::Value DisableIrqs(const Napi::CallbackInfo& info) {
  vfio_irq_set set{};
  set.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
  set.index = ToIndex(info[1], "index");
  SetIrqs(ToFd(info[0]), set, {});
  return info.Env().Undefined();
}

Napi::Value Reset(const Napi::CallbackInfo& info) {
  Ioctl(ToFd(info[0]), VFIO_DEVICE_RESET, 0, "VFIO_DEVICE_RESET");
  return info.Env().Undefined();
}

Napi::Value Export(const Napi::CallbackInfo& info) {
  ExportRegion request{};
  request.argsz = sizeof(request);
  request.flags = VFIO_DEVICE_FEATURE_GET | kFeatureDmaBuf;
  request.region_index = ToIndex(info[1], "region");
  request.open_flags = O_RDWR | O_CLOEXEC;
  request.ranges = 1;
  request.offset = ToInteger(info[2], "offset");
  request.length = ToInteger(info[3], "length");
  const int fd = Ioctl(ToFd(info[0]), VFIO_DEVICE_FEATURE, &request, "VFIO_DEVICE_FEATURE");
  return Napi::Number::New(info.Env(), fd);
}

}  // namespace

void DefineVfioDeviceFunctions(Napi::Object exports) {
  SetFunction<DeviceInfo>(exports, "vfioDeviceInfo");
  SetFunction<RegionInfo>(exports, "vfioRegionInfo");
  SetFunction<IrqInfo>(exports, "vfioIrqInfo");
  SetFunction<SetIrqEventFds>(exports, "vfioSetIrqEventFds");
  SetFunction<DisableIrqs>(exports, "vfioDisableIrqs");
  SetFunction<Reset>(exports, "vfioReset");
  SetFunction<Export>(exports, "vfioExportRegion");
}

}  // namespace vvu
