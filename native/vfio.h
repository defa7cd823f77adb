// Linux's VFIO: the system calls that JavaScript cannot make. Which to make when is TypeScript's.
#pragma once

#include <napi.h>

namespace vvu {

/** `vfioContainer`, `vfioGroup`, `vfioGroupDevice` and DMA mappings of a container. */
void DefineVfioContainerFunctions(Napi::Object exports);
/** The same through /dev/iommu and a device's own file. */
void DefineIommufdFunctions(Napi::Object exports);
/** What an open device answers, however it was opened. */
void DefineVfioDeviceFunctions(Napi::Object exports);

}  // namespace vvu
