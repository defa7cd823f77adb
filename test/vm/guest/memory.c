/*
 * Buffers that the device can reach, so that test code on the host can write rings into them.
 *
 * With a device open through VFIO a buffer is mapped for DMA in chunks, each at an IOVA of its
 * own: one chunk is an ordinary mapping, hundreds of one page each are what a vIOMMU with
 * caching-mode turns into as many DMA_MAP messages. Without VFIO a buffer is huge pages, whose
 * physical address is in pagemap and is what the device sees.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe.h"

enum { MAX_BUFFERS = 16, PAGE = 4096, MAX_DATA = 4096 };
static const uint64_t HUGE_PAGE = 2 << 20;

struct buffer {
  uint8_t* bytes; /* NULL: this slot is free */
  uint64_t size;
  uint64_t iova;
  uint64_t chunk; /* 0: huge pages, not mapped through VFIO */
  uint64_t stride;
  uint64_t mapped; /* chunks that are mapped */
};

static struct buffer buffers[MAX_BUFFERS];

static struct buffer* new_buffer(uint64_t size, int flags) {
  for (unsigned i = 0; i < MAX_BUFFERS; i++) {
    struct buffer* b = &buffers[i];
    if (b->bytes != NULL) continue;
    void* bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | flags, -1, 0);
    if (bytes == MAP_FAILED) {
      fail_errno("mmap");
      return NULL;
    }
    memset(bytes, 0, size);
    *b = (struct buffer){.bytes = bytes, .size = size};
    return b;
  }
  fail("too many buffers");
  return NULL;
}

static void forget(struct buffer* b) {
  munmap(b->bytes, b->size);
  *b = (struct buffer){0};
}

static bool unmap_chunks(struct buffer* b) {
  bool done = true;
  while (b->mapped > 0) {
    b->mapped--;
    done = vfio_dma_unmap(b->iova + b->mapped * b->stride, b->chunk) && done;
  }
  return done;
}

void memory_forget_all(void) {
  for (unsigned i = 0; i < MAX_BUFFERS; i++)
    if (buffers[i].bytes != NULL) forget(&buffers[i]);
}

static unsigned index_of(const struct buffer* b) { return (unsigned)(b - buffers); }

/* dma-map IOVA CHUNK COUNT STRIDE: says the buffer's number. Chunk i is at IOVA + i * STRIDE. */
static bool dma_map(const union arg* args) {
  if (!vfio_is_open()) return fail("no device is open");
  if (args[1].n == 0 || args[1].n % PAGE != 0) return fail("chunks are whole pages");
  struct buffer* b = new_buffer(args[1].n * args[2].n, 0);
  if (b == NULL) return false;
  b->iova = args[0].n;
  b->chunk = args[1].n;
  b->stride = args[3].n;
  for (; b->mapped < args[2].n; b->mapped++) {
    uint8_t* at = b->bytes + b->mapped * b->chunk;
    if (vfio_dma_map(at, b->iova + b->mapped * b->stride, b->chunk)) continue;
    unmap_chunks(b);
    forget(b);
    return false;
  }
  say("%u", index_of(b));
  return true;
}

static uint64_t physical_address(const void* address) {
  uint64_t entry = 0;
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  off_t at = (off_t)((uintptr_t)address / PAGE * sizeof(entry));
  if (pread(fd, &entry, sizeof(entry), at) != sizeof(entry)) entry = 0;
  close(fd);
  /* Documentation/admin-guide/mm/pagemap.rst: bits 0-54 are the frame number. */
  return (entry & ((1ULL << 55) - 1)) * PAGE;
}

/* dma-alloc: one huge page; says "NUMBER PHYSICAL-ADDRESS". */
static bool dma_alloc(const union arg* args) {
  (void)args;
  struct buffer* b = new_buffer(HUGE_PAGE, MAP_HUGETLB);
  if (b == NULL) return false;
  b->iova = physical_address(b->bytes);
  if (b->iova == 0) {
    forget(b);
    return fail("pagemap has no physical address");
  }
  say("%u 0x%llx", index_of(b), (unsigned long long)b->iova);
  return true;
}

static struct buffer* find(uint64_t number) {
  if (number < MAX_BUFFERS && buffers[number].bytes != NULL) return &buffers[number];
  fail("no such buffer");
  return NULL;
}

static uint8_t* locate(uint64_t number, uint64_t offset, uint64_t length) {
  struct buffer* b = find(number);
  if (b == NULL) return NULL;
  if (offset <= b->size && length <= b->size - offset) return b->bytes + offset;
  fail("outside of the buffer");
  return NULL;
}

/* mem-free NUMBER */
static bool mem_free(const union arg* args) {
  struct buffer* b = find(args[0].n);
  if (b == NULL) return false;
  bool done = unmap_chunks(b);
  forget(b);
  return done;
}

/* mem-read NUMBER OFFSET LENGTH: the bytes in hexadecimal. */
static bool mem_read(const union arg* args) {
  uint8_t* at = locate(args[0].n, args[1].n, args[2].n);
  if (at == NULL) return false;
  __sync_synchronize();
  say_hex(at, args[2].n);
  return true;
}

/* mem-write NUMBER OFFSET HEX */
static bool mem_write(const union arg* args) {
  uint8_t data[MAX_DATA];
  size_t digits = strlen(args[2].s);
  if (digits % 2 != 0 || digits / 2 > sizeof(data)) return fail("bad length");
  for (size_t i = 0; i < digits / 2; i++)
    if (sscanf(args[2].s + 2 * i, "%2hhx", &data[i]) != 1) return fail("not hexadecimal");
  uint8_t* at = locate(args[0].n, args[1].n, digits / 2);
  if (at == NULL) return false;
  memcpy(at, data, digits / 2);
  __sync_synchronize();
  return true;
}

/*
 * mem-wait NUMBER OFFSET WIDTH VALUE MILLISECONDS: polls until the memory holds something other
 * than VALUE, or the time is over; says what it holds.
 */
static bool mem_wait(const union arg* args) {
  if (!width_ok(args[2].n)) return false;
  uint8_t* at = locate(args[0].n, args[1].n, args[2].n);
  if (at == NULL) return false;
  uint64_t end = now_ms() + args[4].n;
  uint64_t value = load(at, (unsigned)args[2].n);
  while (value == args[3].n && now_ms() < end) {
    usleep(1000);
    value = load(at, (unsigned)args[2].n);
  }
  say("0x%llx", (unsigned long long)value);
  return true;
}

const struct command memory_commands[] = {
    {"dma-map", "nnnn", dma_map},
    {"dma-alloc", "", dma_alloc},
    {"mem-free", "n", mem_free},
    {"mem-read", "nnn", mem_read},
    {"mem-write", "nns", mem_write},
    {"mem-wait", "nnnnn", mem_wait},
    {NULL, NULL, NULL},
};
