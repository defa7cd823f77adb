// VFIO by container and group: one container per device, with a type 1 IOMMU.
#include <fcntl.h>
#include <linux/vfio.h>

#include "args.h"
#include "fd_util.h"
#include "memory.h"
#include "vfio.h"
#include "vfio_ioctl.h"
#include "wrapped.h"

namespace vvu {
namespace {

UniqueFd Open(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) throw ErrnoFailure(errno, "open " + path);
  return fd;
}

Napi::Value Container(const Napi::CallbackInfo& info) {
  UniqueFd fd = Open(ToText(info[0], "path"));
  const int version = Ioctl(fd.get(), VFIO_GET_API_VERSION, 0, "VFIO_GET_API_VERSION");
  if (version != VFIO_API_VERSION) {
    throw Failure("ENOTSUP", "VFIO has API version " + std::to_string(version));
  }
  return Napi::Number::New(info.Env(), fd.Release());
}

/** The newest type 1 that the kernel has. */
void SetIommu(int container) {
  for (const int type : {VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU}) {
    if (Ioctl(container, VFIO_CHECK_EXTENSION, type, "VFIO_CHECK_EXTENSION") <= 0) continue;
    Ioctl(container, VFIO_SET_IOMMU, type, "VFIO_SET_IOMMU");
    return;
  }
  throw Failure("ENODEV", "VFIO has no type 1 IOMMU");
}

Napi::Value Group(const Napi::CallbackInfo& info) {
  int container = ToFd(info[0]);
  UniqueFd group = Open(ToText(info[1], "path"));
  vfio_group_status status{};
  status.argsz = sizeof(status);
  Ioctl(group.get(), VFIO_GROUP_GET_STATUS, &status, "VFIO_GROUP_GET_STATUS");
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) {
    throw Failure("NOT_VIABLE", "another function of the IOMMU group has a driver of the kernel");
  }
  Ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &container, "VFIO_GROUP_SET_CONTAINER");
  SetIommu(container);
  return Napi::Number::New(info.Env(), group.Release());
}

Napi::Value GroupDevice(const Napi::CallbackInfo& info) {
  const int group = ToFd(info[0]);
  const std::string name = ToText(info[1], "name");
  const int fd = Ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name.c_str(), "VFIO_GROUP_GET_DEVICE_FD");
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value MapDma(const Napi::CallbackInfo& info) {
  const int container = ToFd(info[0]);
  const std::shared_ptr<Mapping> mapping = Memory::MappingOf(info[1]);
  vfio_iommu_type1_dma_map map{};
  map.argsz = sizeof(map);
  map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  map.vaddr = reinterpret_cast<uintptr_t>(mapping->WritableRange(0, mapping->size()));
  map.iova = ToInteger(info[2], "iova");
  map.size = mapping->size();
  Ioctl(container, VFIO_IOMMU_MAP_DMA, &map, "VFIO_IOMMU_MAP_DMA");
  return info.Env().Undefined();
}

Napi::Value UnmapDma(const Napi::CallbackInfo& info) {
  vfio_iommu_type1_dma_unmap unmap{};
  unmap.argsz = sizeof(unmap);
  unmap.iova = ToInteger(info[1], "iova");
  unmap.size = ToInteger(info[2], "size");
  Ioctl(ToFd(info[0]), VFIO_IOMMU_UNMAP_DMA, &unmap, "VFIO_IOMMU_UNMAP_DMA");
  return info.Env().Undefined();
}

}  // namespace

void DefineVfioContainerFunctions(Napi::Object exports) {
  SetFunction<Container>(exports, "vfioContainer");
  SetFunction<Group>(exports, "vfioGroup");
  SetFunction<GroupDevice>(exports, "vfioGroupDevice");
  SetFunction<MapDma>(exports, "vfioMapDma");
  SetFunction<UnmapDma>(exports, "vfioUnmapDma");
}

}  // namespace vvu
