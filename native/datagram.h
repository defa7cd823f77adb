// Datagrams to AF_UNIX sockets, which Node does not have: for the service manager's notifications.
#pragma once

#include <napi.h>

namespace vvu {

void DefineDatagramFunctions(Napi::Object exports);

}  // namespace vvu
