// Memory that a device without an IOMMU in front of it can reach: locked, by physical address.
#pragma once

#include <napi.h>

namespace vvu {

/** `lockedMemory` and `physicalPages` of src/native.ts. */
void DefineDmaFunctions(Napi::Object exports);

}  // namespace vvu
