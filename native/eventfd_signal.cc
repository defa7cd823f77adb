#include "eventfd_signal.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace vvu {
namespace {

/** Head of the completion ring, which the kernel maps at the context's address. */
struct CompletionRing {
  uint32_t id;
  uint32_t capacity;
  uint32_t head;
  uint32_t tail;
  uint32_t magic;
};
constexpr uint32_t kRingMagic = 0xa10a10a1;

/** A file whose reads end at once. */
int EmptyFile() {
  static const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  return fd;
}

/**
 * A write to an eventfd blocks where its counter is full and its O_NONBLOCK is clear; both are in
 * the hands of every peer that shares it, and may change between a check and the write. But the
 * kernel itself signals the eventfd of an asynchronous read that is done, saturating and never
 * blocking. So this reads nothing from an empty file, for the sake of the signal.
 */
class SignalContext {
 public:
  SignalContext() {
    if (EmptyFile() < 0 || syscall(SYS_io_setup, 1, &context_) != 0) context_ = 0;
    if (context_ != 0 && ring()->magic != kRingMagic) Destroy();
  }
  ~SignalContext() { Destroy(); }
  SignalContext(const SignalContext&) = delete;
  SignalContext& operator=(const SignalContext&) = delete;

  int Post(int fd) {
    if (context_ == 0) return ENOSYS;
    uint8_t nothing;
    iocb control{};
    control.aio_lio_opcode = IOCB_CMD_PREAD;
    control.aio_fildes = static_cast<uint32_t>(EmptyFile());
    control.aio_buf = reinterpret_cast<uintptr_t>(&nothing);
    control.aio_nbytes = sizeof(nothing);
    control.aio_flags = IOCB_FLAG_RESFD;
    control.aio_resfd = static_cast<uint32_t>(fd);
    iocb* list[] = {&control};
    if (syscall(SYS_io_submit, context_, 1, list) != 1) return errno == EAGAIN ? ENOSYS : errno;
    // It was done before the call returned. Taking all completions back needs no system call.
    CompletionRing* const completions = ring();
    const uint32_t tail = __atomic_load_n(&completions->tail, __ATOMIC_ACQUIRE);
    __atomic_store_n(&completions->head, tail, __ATOMIC_RELEASE);
    return 0;
  }

 private:
  CompletionRing* ring() const { return reinterpret_cast<CompletionRing*>(context_); }

  void Destroy() {
    if (context_ != 0) syscall(SYS_io_destroy, context_);
    context_ = 0;
  }

  aio_context_t context_ = 0;
};

SignalContext& OfThisThread() {
  static thread_local SignalContext context;
  return context;
}

}  // namespace

void PrepareEventFdSignals() { OfThisThread(); }

int PostEventFd(int fd) { return OfThisThread().Post(fd); }

}  // namespace vvu
