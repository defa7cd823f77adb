#include "sigbus.h"

#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>

#include "errors.h"

namespace vvu {

// A slot is a seqlock: its owner makes `sequence` odd while it changes the rest, and the handler,
// which can take no lock, skips what changed under its eyes. A slot that holds the faulting address
// can't change meanwhile, since the thread that faults is the one that owns the region.
struct SigbusSlot {
  std::atomic<uint32_t> sequence{0};
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<uintptr_t> page{0};
  std::atomic<int> protection{0};
  std::atomic<uv_async_t*> notify{nullptr};
  std::atomic<bool> poisoned{false};
  /** Under the registry's mutex only. */
  bool used = false;
};

namespace {

constexpr size_t kSlotsPerChunk = 128;

/** Chunks are only ever appended, so that the handler can walk them at any time. */
struct Chunk {
  SigbusSlot slots[kSlotsPerChunk];
  std::atomic<Chunk*> next{nullptr};
};

// Process-wide, because signal dispositions are.
Chunk first_chunk;
std::mutex registry_mutex;
bool installed = false;
struct sigaction previous;
std::atomic<bool> previous_spent{false};

bool Holds(const SigbusSlot& slot, uintptr_t address) {
  const uint32_t before = slot.sequence.load(std::memory_order_acquire);
  const uintptr_t begin = slot.begin.load(std::memory_order_relaxed);
  const uintptr_t end = slot.end.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  const uint32_t after = slot.sequence.load(std::memory_order_relaxed);
  return before == after && (before & 1) == 0 && begin <= address && address < end;
}

SigbusSlot* Find(uintptr_t address) {
  for (Chunk* chunk = &first_chunk; chunk != nullptr;
       chunk = chunk->next.load(std::memory_order_acquire)) {
    for (SigbusSlot& slot : chunk->slots) {
      if (Holds(slot, address)) return &slot;
    }
  }
  return nullptr;
}

bool Repair(uintptr_t address) {
  SigbusSlot* slot = Find(address);
  if (slot == nullptr) return false;
  const uintptr_t page = slot->page.load(std::memory_order_relaxed);
  const uintptr_t from = address & ~(page - 1);
  const uintptr_t end = slot->end.load(std::memory_order_relaxed);
  // mmap is a plain system call on Linux; unlike most of the C library it may be used here.
  void* zeros = mmap(reinterpret_cast<void*>(from), end - from,
                     slot->protection.load(std::memory_order_relaxed),
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  if (zeros == MAP_FAILED) return false;
  slot->poisoned.store(true, std::memory_order_release);
  uv_async_t* notify = slot->notify.load(std::memory_order_relaxed);
  if (notify != nullptr) uv_async_send(notify);
  return true;
}

/** What the kernel would have done: this signal's default ends the process with a core. */
void ForwardToDefault(int number, const siginfo_t* info) {
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  sigaction(number, &standard, nullptr);
  // A fault happens again when the instruction is retried, with its true siginfo. A signal that
  // somebody sent has to be sent again.
  if (info->si_code <= 0) raise(number);
}

void Forward(int number, siginfo_t* info, void* context) {
  const bool handler = previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN;
  if (previous.sa_handler == SIG_IGN && info->si_code <= 0) return;
  if (!handler || ((previous.sa_flags & SA_RESETHAND) != 0 && previous_spent.exchange(true))) {
    ForwardToDefault(number, info);
    return;
  }
  sigset_t mask = previous.sa_mask;
  if ((previous.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, number);
  sigset_t saved;
  pthread_sigmask(SIG_BLOCK, &mask, &saved);
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(number, info, context);
  } else {
    previous.sa_handler(number);
  }
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
}

void OnSigbus(int number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  // BUS_ADRERR is "beyond the end of the file"; BUS_MCEERR_* (broken memory) isn't ours to hide.
  const bool repaired =
      info->si_code == BUS_ADRERR && Repair(reinterpret_cast<uintptr_t>(info->si_addr));
  if (!repaired) Forward(number, info, context);
  errno = saved_errno;
}

void InstallHandler() {
  struct sigaction ours{};
  ours.sa_sigaction = OnSigbus;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
  sigemptyset(&ours.sa_mask);
  // Known before ours can run.
  if (sigaction(SIGBUS, nullptr, &previous) != 0 || sigaction(SIGBUS, &ours, nullptr) != 0) {
    throw ErrnoFailure(errno, "sigaction");
  }
  installed = true;
}

SigbusSlot* TakeSlot() {
  Chunk* chunk = &first_chunk;
  while (true) {
    for (SigbusSlot& slot : chunk->slots) {
      if (!slot.used) return &slot;
    }
    Chunk* next = chunk->next.load(std::memory_order_relaxed);
    if (next == nullptr) {
      next = new Chunk;
      chunk->next.store(next, std::memory_order_release);
    }
    chunk = next;
  }
}

void Assign(SigbusSlot* slot, uintptr_t begin, uintptr_t end) {
  const uint32_t sequence = slot->sequence.load(std::memory_order_relaxed);
  slot->sequence.store(sequence + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  slot->begin.store(begin, std::memory_order_relaxed);
  slot->end.store(end, std::memory_order_relaxed);
  slot->sequence.store(sequence + 2, std::memory_order_release);
}

}  // namespace

SigbusSlot* RegisterSigbusRegion(void* address, size_t size, size_t page, int protection,
                                 uv_async_t* notify) {
  const std::lock_guard<std::mutex> lock(registry_mutex);
  if (!installed) InstallHandler();
  SigbusSlot* slot = TakeSlot();
  slot->used = true;
  slot->page.store(page, std::memory_order_relaxed);
  slot->protection.store(protection, std::memory_order_relaxed);
  slot->notify.store(notify, std::memory_order_relaxed);
  slot->poisoned.store(false, std::memory_order_relaxed);
  const auto begin = reinterpret_cast<uintptr_t>(address);
  Assign(slot, begin, begin + size);
  return slot;
}

void UnregisterSigbusRegion(SigbusSlot* slot) {
  const std::lock_guard<std::mutex> lock(registry_mutex);
  Assign(slot, 0, 0);
  slot->notify.store(nullptr, std::memory_order_relaxed);
  slot->used = false;
}

bool IsPoisoned(const SigbusSlot* slot) { return slot->poisoned.load(std::memory_order_acquire); }

}  // namespace vvu
