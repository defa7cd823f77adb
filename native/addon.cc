// The addon's exports: `Native` of src/native.ts.
#include <napi.h>

#include "datagram.h"
#include "dma_memory.h"
#include "eventfd_signal.h"
#include "eventfd_watch.h"
#include "fast_regions_object.h"
#include "files.h"
#include "instance.h"
#include "listener.h"
#include "memory.h"
#include "relay.h"
#include "socket.h"
#include "vfio.h"
#include "wrapped.h"

namespace vvu {
namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  Instance::Create(env);
  PrepareEventFdSignals();
  Instance& instance = Instance::Of(env);
  Socket::Define(instance);
  Listener::Define(instance);
  Memory::Define(instance);
  Watch::Define(instance);
  Relay::Define(instance);
  FastRegionsObject::Define(instance);
  DefineSocketFunctions(exports);
  DefineFileFunctions(exports);
  DefineEventFdFunctions(exports);
  DefineDatagramFunctions(exports);
  DefineDmaFunctions(exports);
  DefineVfioContainerFunctions(exports);
  DefineIommufdFunctions(exports);
  DefineVfioDeviceFunctions(exports);
  SetFunction<Listener::Listen>(exports, "listen");
  SetFunction<Memory::Map>(exports, "map");
  SetFunction<Memory::MapDevice>(exports, "mapDevice");
  SetFunction<Watch::Create>(exports, "watchEventFd");
  SetFunction<Relay::Create>(exports, "relayEventFd");
  SetFunction<Relay::CreateUio>(exports, "relayUio");
  SetFunction<Relay::CreateStore>(exports, "relayStore");
  SetFunction<FastRegionsObject::Create>(exports, "createFastRegions");
  return exports;
}

}  // namespace

NODE_API_MODULE(virtio_vhost_user, Init)

}  // namespace vvu
