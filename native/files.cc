#include "files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <optional>

#include "args.h"
#include "errors.h"
#include "fd_util.h"
#include "mapping.h"
#include "wrapped.h"

namespace vvu {
namespace {

Napi::Value CreateMemfd(const Napi::CallbackInfo& info) {
  const std::string name = ToText(info[0], "name");
  const uint64_t size = ToInteger(info[1], "size");
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) throw ErrnoFailure(errno, "memfd_create");
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) throw ErrnoFailure(errno, "ftruncate");
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) throw ErrnoFailure(errno, "F_ADD_SEALS");
  return Napi::Number::New(info.Env(), fd.Release());
}

/** Makes the file with its size. False where it exists already. */
bool MakeFile(const std::string& path, uint64_t size) {
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600));
  if (!fd.valid()) {
    if (errno == EEXIST) return false;
    throw ErrnoFailure(errno, "open " + path);
  }
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    const int error = errno;
    unlink(path.c_str());
    throw ErrnoFailure(error, "ftruncate " + path);
  }
  return true;
}

Napi::Value OpenFile(const Napi::CallbackInfo& info) {
  const std::string path = ToText(info[0], "path");
  const Napi::Object options = ToObject(info[1], "options");
  const bool writable = ToBool(options.Get("writable"), "writable");
  const Napi::Value create = options.Get("create");
  if (!create.IsUndefined()) MakeFile(path, ToInteger(create, "create"));
  // O_NONBLOCK: a FIFO put in the file's place must not hold the thread.
  const int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  UniqueFd fd(open(path.c_str(), flags));
  if (!fd.valid()) throw ErrnoFailure(errno, "open " + path);
  return Napi::Number::New(info.Env(), fd.Release());
}

const char* KindOf(int fd, mode_t mode) {
  if (S_ISREG(mode)) return "file";
  if (S_ISSOCK(mode)) return "socket";
  if (S_ISFIFO(mode)) return "pipe";
  return IsEventFd(fd) ? "eventfd" : "other";
}

Napi::Value FdInfo(const Napi::CallbackInfo& info) {
  const int fd = ToFd(info[0]);
  const Napi::Env env = info.Env();
  struct stat status;
  if (fstat(fd, &status) != 0) throw ErrnoFailure(errno, "fstat");
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) throw ErrnoFailure(errno, "fcntl");
  const bool file = S_ISREG(status.st_mode);
  Napi::Object result = Napi::Object::New(env);
  result.Set("kind", KindOf(fd, status.st_mode));
  result.Set("dev", Napi::BigInt::New(env, static_cast<uint64_t>(status.st_dev)));
  result.Set("ino", Napi::BigInt::New(env, static_cast<uint64_t>(status.st_ino)));
  result.Set("size", Napi::Number::New(env, file ? static_cast<double>(status.st_size) : 0));
  result.Set("seals", Napi::Number::New(env, fcntl(fd, F_GET_SEALS)));
  result.Set("blockSize", Napi::Number::New(env, static_cast<double>(PageSizeOf(fd))));
  result.Set("writable", Napi::Boolean::New(env, (flags & O_ACCMODE) != O_RDONLY));
  return result;
}

Napi::Value Dup(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), DupFd(ToFd(info[0])).Release());
}

Napi::Value CloseFd(const Napi::CallbackInfo& info) {
  // EINTR leaves the fd closed on Linux.
  if (close(ToFd(info[0])) != 0 && errno != EINTR) throw ErrnoFailure(errno, "close");
  return info.Env().Undefined();
}

Napi::Value Fence(const Napi::CallbackInfo& info) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return info.Env().Undefined();
}

}  // namespace

void DefineFileFunctions(Napi::Object exports) {
  SetFunction<CreateMemfd>(exports, "createMemfd");
  SetFunction<OpenFile>(exports, "openFile");
  SetFunction<FdInfo>(exports, "fdInfo");
  SetFunction<Dup>(exports, "dupFd");
  SetFunction<CloseFd>(exports, "closeFd");
  SetFunction<Fence>(exports, "fence");
}

}  // namespace vvu
