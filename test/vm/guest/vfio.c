/*
 * Commands on one device opened through VFIO: container and group with a type 1 IOMMU, which in
 * these tests is QEMU's emulated intel-iommu. One device at a time is open.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe.h"

enum { MAX_VECTORS = 64 };

static struct {
  char bdf[16]; /* empty: nothing is open */
  int container;
  int group;
  int device;
  int vectors[MAX_VECTORS]; /* eventfds */
  unsigned vector_count;
} state = {.container = -1, .group = -1, .device = -1};

bool vfio_is_open(void) { return state.bdf[0] != '\0'; }

bool vfio_owns(const char* bdf) { return vfio_is_open() && strcmp(bdf, state.bdf) == 0; }

static void close_fd(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void close_vectors(void) {
  for (unsigned i = 0; i < state.vector_count; i++) close(state.vectors[i]);
  state.vector_count = 0;
}

static void close_all(void) {
  pci_unmap_all();
  close_vectors();
  close_fd(&state.device);
  close_fd(&state.group);
  close_fd(&state.container);
  state.bdf[0] = '\0';
  memory_forget_all();
}

static bool open_group(const char* bdf) {
  char link[PATH_MAX];
  char target[PATH_MAX];
  char path[PATH_MAX];
  snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", bdf);
  ssize_t length = readlink(link, target, sizeof(target) - 1);
  if (length < 0) return fail_errno(link);
  target[length] = '\0';
  snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(target, '/') + 1);
  state.group = open(path, O_RDWR | O_CLOEXEC);
  return state.group >= 0 || fail_errno(path);
}

static bool open_device(const char* bdf) {
  struct vfio_group_status status = {.argsz = sizeof(status)};
  state.container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
  if (state.container < 0) return fail_errno("/dev/vfio/vfio");
  if (ioctl(state.container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1)
    return fail("no type 1 IOMMU");
  if (!open_group(bdf)) return false;
  if (ioctl(state.group, VFIO_GROUP_GET_STATUS, &status) < 0) return fail_errno("GET_STATUS");
  if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) return fail("the group is not viable");
  if (ioctl(state.group, VFIO_GROUP_SET_CONTAINER, &state.container) < 0)
    return fail_errno("SET_CONTAINER");
  if (ioctl(state.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
    return fail_errno("SET_IOMMU");
  state.device = ioctl(state.group, VFIO_GROUP_GET_DEVICE_FD, bdf);
  return state.device >= 0 || fail_errno("GET_DEVICE_FD");
}

/* vfio-open BDF: the device must be bound to vfio-pci. */
static bool vfio_open(const union arg* args) {
  if (vfio_is_open()) return fail("%s is open already", state.bdf);
  if (!open_device(args[0].s)) {
    close_all();
    return false;
  }
  snprintf(state.bdf, sizeof(state.bdf), "%s", args[0].s);
  /* BARs mapped through sysfs before now would be revoked when vfio-pci claims them. */
  pci_unmap_all();
  return true;
}

static bool need_open(void) { return vfio_is_open() || fail("no device is open"); }

/* vfio-close: gives up the device, its mappings and its vectors. */
static bool vfio_close(const union arg* args) {
  (void)args;
  close_all();
  return true;
}

/* vfio-reset: VFIO_DEVICE_RESET, which is an FLR for a function that has it. */
static bool vfio_reset(const union arg* args) {
  (void)args;
  if (!need_open()) return false;
  return ioctl(state.device, VFIO_DEVICE_RESET) == 0 || fail_errno("DEVICE_RESET");
}

static bool region_info(unsigned index, struct vfio_region_info* info) {
  *info = (struct vfio_region_info){.argsz = sizeof(*info), .index = index};
  return ioctl(state.device, VFIO_DEVICE_GET_REGION_INFO, info) == 0;
}

/* vfio-info: "region INDEX SIZE FLAGS" and "irq INDEX COUNT FLAGS" lines. */
static bool vfio_info(const union arg* args) {
  (void)args;
  if (!need_open()) return false;
  for (unsigned i = 0; i < VFIO_PCI_NUM_REGIONS; i++) {
    struct vfio_region_info info;
    if (!region_info(i, &info)) continue;
    say("region %u 0x%llx 0x%x", i, (unsigned long long)info.size, info.flags);
  }
  for (unsigned i = 0; i < VFIO_PCI_NUM_IRQS; i++) {
    struct vfio_irq_info info = {.argsz = sizeof(info), .index = i};
    if (ioctl(state.device, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0) continue;
    say("irq %u %u 0x%x", i, info.count, info.flags);
  }
  return true;
}

void* vfio_map_region(unsigned index, uint64_t* size) {
  struct vfio_region_info info;
  if (!region_info(index, &info)) return NULL;
  void* base =
      mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, state.device, (off_t)info.offset);
  if (base == MAP_FAILED) return NULL;
  *size = info.size;
  return base;
}

bool vfio_dma_map(void* address, uint64_t iova, uint64_t size) {
  struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
                                         .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                                         .vaddr = (uintptr_t)address,
                                         .iova = iova,
                                         .size = size};
  return ioctl(state.container, VFIO_IOMMU_MAP_DMA, &map) == 0 || fail_errno("MAP_DMA");
}

bool vfio_dma_unmap(uint64_t iova, uint64_t size) {
  struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof(unmap), .iova = iova, .size = size};
  return ioctl(state.container, VFIO_IOMMU_UNMAP_DMA, &unmap) == 0 || fail_errno("UNMAP_DMA");
}

static bool set_msix(unsigned count, const int* fds) {
  struct {
    struct vfio_irq_set header;
    int fds[MAX_VECTORS];
  } set = {.header = {.index = VFIO_PCI_MSIX_IRQ_INDEX, .count = count}};
  set.header.argsz = sizeof(set.header) + count * sizeof(int);
  set.header.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
                     (count > 0 ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE);
  if (count > 0) memcpy(set.header.data, fds, count * sizeof(int));
  return ioctl(state.device, VFIO_DEVICE_SET_IRQS, &set) == 0;
}

/* irq-enable COUNT: MSI-X vectors 0..COUNT-1, each with an eventfd of its own. */
static bool irq_enable(const union arg* args) {
  if (!need_open()) return false;
  if (args[0].n == 0 || args[0].n > MAX_VECTORS) return fail("1 to %d vectors", MAX_VECTORS);
  if (state.vector_count > 0) return fail("vectors are enabled already");
  while (state.vector_count < args[0].n) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) break;
    state.vectors[state.vector_count++] = fd;
  }
  if (state.vector_count == args[0].n && set_msix(state.vector_count, state.vectors)) return true;
  fail_errno("SET_IRQS");
  close_vectors();
  return false;
}

/* irq-disable: turns MSI-X off. */
static bool irq_disable(const union arg* args) {
  (void)args;
  if (!need_open()) return false;
  bool done = set_msix(0, NULL);
  if (!done) fail_errno("SET_IRQS");
  close_vectors();
  return done;
}

/*
 * irq-wait VECTOR MILLISECONDS: says how often the vector fired since it was last asked about,
 * 0 if it did not within that time.
 */
static bool irq_wait(const union arg* args) {
  if (!need_open()) return false;
  if (args[0].n >= state.vector_count) return fail("vector is not enabled");
  struct pollfd poller = {.fd = state.vectors[args[0].n], .events = POLLIN};
  uint64_t count = 0;
  if (poll(&poller, 1, (int)args[1].n) < 0) return fail_errno("poll");
  if (poller.revents != 0 && read(poller.fd, &count, sizeof(count)) < 0) count = 0;
  say("%llu", (unsigned long long)count);
  return true;
}

const struct command vfio_commands[] = {
    {"vfio-open", "s", vfio_open},   {"vfio-close", "", vfio_close},
    {"vfio-reset", "", vfio_reset},  {"vfio-info", "", vfio_info},
    {"irq-enable", "n", irq_enable}, {"irq-disable", "", irq_disable},
    {"irq-wait", "nn", irq_wait},    {NULL, NULL, NULL},
};
