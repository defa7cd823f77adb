// VFIO by device file and iommufd (Linux 6.6 and later).
#include <fcntl.h>
#include <linux/types.h>
#include <linux/vfio.h>

#include "args.h"
#include "fd_util.h"
#include "memory.h"
#include "vfio.h"
#include "vfio_ioctl.h"
#include "wrapped.h"

namespace vvu {
namespace {

// The kernel's interface (include/uapi/linux/iommufd.h, vfio.h), restated because the headers that
// programs are compiled with are often older than the kernel that they run on.
constexpr unsigned long kIoasAlloc = _IO(VFIO_TYPE, 0x81);
constexpr unsigned long kIoasMap = _IO(VFIO_TYPE, 0x85);
constexpr unsigned long kIoasUnmap = _IO(VFIO_TYPE, 0x86);
constexpr unsigned long kBindIommufd = _IO(VFIO_TYPE, VFIO_BASE + 18);
constexpr unsigned long kAttachPageTable = _IO(VFIO_TYPE, VFIO_BASE + 19);

constexpr __u32 kMapFixedIova = 1 << 0;
constexpr __u32 kMapWriteable = 1 << 1;
constexpr __u32 kMapReadable = 1 << 2;

struct IoasAlloc {
  __u32 size;
  __u32 flags;
  __u32 out_ioas_id;
};

struct IoasMap {
  __u32 size;
  __u32 flags;
  __u32 ioas_id;
  __u32 reserved;
  __u64 user_va;
  __u64 length;
  __u64 iova;
};

struct IoasUnmap {
  __u32 size;
  __u32 ioas_id;
  __u64 iova;
  __u64 length;
};

struct BindIommufd {
  __u32 argsz;
  __u32 flags;
  __s32 iommufd;
  __u32 out_devid;
};

struct AttachPageTable {
  __u32 argsz;
  __u32 flags;
  __u32 pt_id;
};

__u32 ToIoas(Napi::Value value) {
  return static_cast<__u32>(ToInteger(value, "ioas", ~uint32_t{0}));
}

Napi::Value AllocateIoas(const Napi::CallbackInfo& info) {
  IoasAlloc alloc{sizeof(alloc), 0, 0};
  Ioctl(ToFd(info[0]), kIoasAlloc, &alloc, "IOMMU_IOAS_ALLOC");
  return Napi::Number::New(info.Env(), alloc.out_ioas_id);
}

Napi::Value Attach(const Napi::CallbackInfo& info) {
  const int device = ToFd(info[0]);
  BindIommufd bind{sizeof(bind), 0, ToFd(info[1]), 0};
  Ioctl(device, kBindIommufd, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
  AttachPageTable attach{sizeof(attach), 0, ToIoas(info[2])};
  Ioctl(device, kAttachPageTable, &attach, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
  return info.Env().Undefined();
}

Napi::Value Map(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Mapping> mapping = Memory::MappingOf(info[2]);
  IoasMap map{};
  map.size = sizeof(map);
  map.flags = kMapFixedIova | kMapWriteable | kMapReadable;
  map.ioas_id = ToIoas(info[1]);
  map.user_va = reinterpret_cast<uintptr_t>(mapping->WritableRange(0, mapping->size()));
  map.length = mapping->size();
  map.iova = ToInteger(info[3], "iova");
  Ioctl(ToFd(info[0]), kIoasMap, &map, "IOMMU_IOAS_MAP");
  return info.Env().Undefined();
}

Napi::Value Unmap(const Napi::CallbackInfo& info) {
  IoasUnmap unmap{};
  unmap.size = sizeof(unmap);
  unmap.ioas_id = ToIoas(info[1]);
  unmap.iova = ToInteger(info[2], "iova");
  unmap.length = ToInteger(info[3], "size");
  Ioctl(ToFd(info[0]), kIoasUnmap, &unmap, "IOMMU_IOAS_UNMAP");
  return info.Env().Undefined();
}

}  // namespace

void DefineIommufdFunctions(Napi::Object exports) {
  SetFunction<AllocateIoas>(exports, "iommufdAllocate");
  SetFunction<Attach>(exports, "iommufdAttach");
  SetFunction<Map>(exports, "iommufdMap");
  SetFunction<Unmap>(exports, "iommufdUnmap");
}

}  // namespace vvu
