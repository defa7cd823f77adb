// The functions of src/native.ts on plain fds: memfds, files, fdInfo.
#pragma once

#include <napi.h>

namespace vvu {

void DefineFileFunctions(Napi::Object exports);

}  // namespace vvu
