#include "datagram.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "args.h"
#include "errors.h"
#include "fd_util.h"
#include "wrapped.h"

namespace vvu {
namespace {

/** sockaddr_un of an abstract name: a NUL in the place of `@`, and no NUL behind it. */
sockaddr_un AbstractAddress(const std::string& name, socklen_t* length) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() > sizeof(address.sun_path)) {
    throw ErrnoFailure(ENAMETOOLONG, "abstract socket " + name);
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  address.sun_path[0] = '\0';
  *length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  return address;
}

void Send(const std::string& path, const Bytes& bytes) {
  socklen_t length = sizeof(sockaddr_un);
  const sockaddr_un address = path[0] == '@' ? AbstractAddress(path, &length) : UnixAddress(path);
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) throw ErrnoFailure(errno, "socket");
  const ssize_t sent = sendto(fd.get(), bytes.data, bytes.size, MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&address), length);
  if (sent < 0) throw ErrnoFailure(errno, "sendto " + path);
}

Napi::Value SendDatagram(const Napi::CallbackInfo& info) {
  const std::string path = ToText(info[0], "path");
  const Bytes bytes = ToBytes(info[1], "bytes");
  Send(path, bytes);
  return info.Env().Undefined();
}

}  // namespace

void DefineDatagramFunctions(Napi::Object exports) {
  SetFunction<SendDatagram>(exports, "sendDatagram");
}

}  // namespace vvu
