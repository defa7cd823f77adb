/*
 * Commands on PCI functions: sysfs for enumeration and config space, mapped BARs for the rest.
 *
 * A BAR is reached through the open VFIO device if it is that device's, else through sysfs'
 * resourceN. Which one matters: with CONFIG_IO_STRICT_DEVMEM a resource file cannot be mapped
 * once vfio-pci has claimed that BAR, and vfio-pci claims it on its first mmap or access.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe.h"

enum { MAX_MAPPINGS = 32, PAGE = 4096, RESOURCES = 7, CONFIG_SIZE = 4096 };

struct mapping {
  char bdf[16];
  unsigned bar;
  bool sysfs;
  uint8_t* base; /* start of the mapping, page-aligned */
  uint64_t length;
  uint8_t* bytes; /* start of the BAR */
  uint64_t size;
};

static struct mapping mappings[MAX_MAPPINGS];
static unsigned mapping_count;

static void device_path(char* path, const char* bdf, const char* name) {
  snprintf(path, PATH_MAX, "/sys/bus/pci/devices/%s/%s", bdf, name);
}

static uint64_t read_hex(const char* bdf, const char* name) {
  char path[PATH_MAX];
  unsigned long long value = 0;
  device_path(path, bdf, name);
  FILE* file = fopen(path, "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%llx", &value) != 1) value = 0;
  fclose(file);
  return value;
}

/* The last component of a link such as `driver` or `iommu_group`, "-" without one. */
static void read_link_name(const char* bdf, const char* name, char* out, size_t size) {
  char path[PATH_MAX];
  char target[PATH_MAX];
  device_path(path, bdf, name);
  ssize_t length = readlink(path, target, sizeof(target) - 1);
  snprintf(out, size, "-");
  if (length <= 0) return;
  target[length] = '\0';
  const char* slash = strrchr(target, '/');
  snprintf(out, size, "%.63s", slash == NULL ? target : slash + 1);
}

/* pci-list: BDF VENDOR:DEVICE CLASS REVISION SUBVENDOR:SUBDEVICE DRIVER GROUP, one line each. */
static bool pci_list(const union arg* args) {
  (void)args;
  DIR* directory = opendir("/sys/bus/pci/devices");
  if (directory == NULL) return fail_errno("opendir");
  for (struct dirent* entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    const char* bdf = entry->d_name;
    char driver[64];
    char group[64];
    if (bdf[0] == '.') continue;
    read_link_name(bdf, "driver", driver, sizeof(driver));
    read_link_name(bdf, "iommu_group", group, sizeof(group));
    say("%s %04x:%04x %06x %02x %04x:%04x %s %s", bdf, (unsigned)read_hex(bdf, "vendor"),
        (unsigned)read_hex(bdf, "device"), (unsigned)read_hex(bdf, "class"),
        (unsigned)read_hex(bdf, "revision"), (unsigned)read_hex(bdf, "subsystem_vendor"),
        (unsigned)read_hex(bdf, "subsystem_device"), driver, group);
  }
  closedir(directory);
  return true;
}

struct resource {
  uint64_t start;
  uint64_t end;
  uint64_t flags;
};

static bool read_resources(const char* bdf, struct resource* resources) {
  char path[PATH_MAX];
  device_path(path, bdf, "resource");
  FILE* file = fopen(path, "r");
  if (file == NULL) return fail_errno(path);
  memset(resources, 0, RESOURCES * sizeof(*resources));
  for (unsigned i = 0; i < RESOURCES; i++) {
    unsigned long long start, end, flags;
    if (fscanf(file, "%llx %llx %llx", &start, &end, &flags) != 3) break;
    resources[i] = (struct resource){start, end, flags};
  }
  fclose(file);
  return true;
}

/* pci-resources BDF: INDEX START SIZE FLAGS for each BAR and the ROM that exist. */
static bool pci_resources(const union arg* args) {
  struct resource resources[RESOURCES];
  if (!read_resources(args[0].s, resources)) return false;
  for (unsigned i = 0; i < RESOURCES; i++) {
    const struct resource* r = &resources[i];
    if (r->flags == 0) continue;
    say("%u 0x%llx 0x%llx 0x%llx", i, (unsigned long long)r->start,
        (unsigned long long)(r->end - r->start + 1), (unsigned long long)r->flags);
  }
  return true;
}

static int open_config(const char* bdf) {
  char path[PATH_MAX];
  device_path(path, bdf, "config");
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) fail_errno(path);
  return fd;
}

/* cfg-dump BDF: the whole configuration space, 256 or 4096 bytes. */
static bool cfg_dump(const union arg* args) {
  uint8_t bytes[CONFIG_SIZE];
  int fd = open_config(args[0].s);
  if (fd < 0) return false;
  ssize_t length = pread(fd, bytes, sizeof(bytes), 0);
  close(fd);
  if (length < 0) return fail_errno("config");
  say_hex(bytes, (size_t)length);
  return true;
}

/* cfg-read BDF OFFSET WIDTH: one access, as the kernel does not split aligned ones. */
static bool cfg_read(const union arg* args) {
  uint64_t value = 0;
  if (!width_ok(args[2].n)) return false;
  int fd = open_config(args[0].s);
  if (fd < 0) return false;
  ssize_t got = pread(fd, &value, args[2].n, (off_t)args[1].n);
  close(fd);
  if (got != (ssize_t)args[2].n) return fail("config read of %zd bytes", got);
  say("0x%llx", (unsigned long long)value);
  return true;
}

/* cfg-write BDF OFFSET WIDTH VALUE */
static bool cfg_write(const union arg* args) {
  if (!width_ok(args[2].n)) return false;
  int fd = open_config(args[0].s);
  if (fd < 0) return false;
  ssize_t put = pwrite(fd, &args[3].n, args[2].n, (off_t)args[1].n);
  close(fd);
  return put == (ssize_t)args[2].n || fail("config write of %zd bytes", put);
}

static bool map_sysfs(struct mapping* m) {
  struct resource resources[RESOURCES];
  char name[16];
  char path[PATH_MAX];
  if (m->bar >= RESOURCES - 1) return fail("no such BAR: %u", m->bar);
  if (!read_resources(m->bdf, resources)) return false;
  const struct resource* r = &resources[m->bar];
  if (r->flags == 0) return fail("BAR %u is not there", m->bar);
  snprintf(name, sizeof(name), "resource%u", m->bar);
  device_path(path, m->bdf, name);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return fail_errno(path);
  /* The file maps whole pages: a BAR smaller than one may begin in the middle of it. */
  uint64_t lead = r->start % PAGE;
  m->size = r->end - r->start + 1;
  m->length = (lead + m->size + PAGE - 1) / PAGE * PAGE;
  m->base = mmap(NULL, m->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (m->base == MAP_FAILED) return fail_errno("mmap of the resource file");
  m->bytes = m->base + lead;
  return true;
}

static bool map_vfio(struct mapping* m) {
  m->base = vfio_map_region(m->bar, &m->size);
  if (m->base == NULL) return fail_errno("mmap of the VFIO region");
  m->length = m->size;
  m->bytes = m->base;
  return true;
}

static struct mapping* find_mapping(const char* bdf, unsigned bar, bool sysfs) {
  for (unsigned i = 0; i < mapping_count; i++) {
    struct mapping* m = &mappings[i];
    if (m->bar == bar && m->sysfs == sysfs && strcmp(m->bdf, bdf) == 0) return m;
  }
  if (mapping_count == MAX_MAPPINGS) {
    fail("too many mapped BARs");
    return NULL;
  }
  struct mapping* m = &mappings[mapping_count];
  *m = (struct mapping){.bar = bar, .sysfs = sysfs};
  snprintf(m->bdf, sizeof(m->bdf), "%s", bdf);
  if (!(sysfs ? map_sysfs(m) : map_vfio(m))) return NULL;
  mapping_count++;
  return m;
}

void pci_unmap_all(void) {
  for (unsigned i = 0; i < mapping_count; i++) munmap(mappings[i].base, mappings[i].length);
  mapping_count = 0;
}

/*
 * Where (BDF, BAR, OFFSET) is. A BDF written with a leading '@' means the sysfs file even if the
 * device is open through VFIO.
 */
static uint8_t* locate(const union arg* args, uint64_t length) {
  const char* bdf = args[0].s;
  bool sysfs = bdf[0] == '@';
  if (sysfs) bdf++;
  struct mapping* m = find_mapping(bdf, (unsigned)args[1].n, sysfs || !vfio_owns(bdf));
  if (m == NULL) return NULL;
  if (args[2].n > m->size || length > m->size - args[2].n) {
    fail("outside of the BAR (0x%llx bytes)", (unsigned long long)m->size);
    return NULL;
  }
  return m->bytes + args[2].n;
}

/* bar-read BDF BAR OFFSET WIDTH */
static bool bar_read(const union arg* args) {
  if (!width_ok(args[3].n)) return false;
  uint8_t* at = locate(args, args[3].n);
  if (at == NULL) return false;
  if (GUARD()) return fail("bus error");
  uint64_t value = load(at, (unsigned)args[3].n);
  unguard();
  say("0x%llx", (unsigned long long)value);
  return true;
}

/* bar-write BDF BAR OFFSET WIDTH VALUE */
static bool bar_write(const union arg* args) {
  if (!width_ok(args[3].n)) return false;
  uint8_t* at = locate(args, args[3].n);
  if (at == NULL) return false;
  if (GUARD()) return fail("bus error");
  store(at, (unsigned)args[3].n, args[4].n);
  unguard();
  return true;
}

/* The 64-bit word at index i of a test pattern; test/vm/pattern.ts has its twin. */
static uint64_t pattern(uint64_t seed, uint64_t i) { return (seed + i) * 0x9e3779b97f4a7c15; }

/* bar-fill BDF BAR OFFSET LENGTH SEED: writes the pattern in 8-byte stores. */
static bool bar_fill(const union arg* args) {
  uint8_t* at = locate(args, args[3].n);
  if (at == NULL) return false;
  if (GUARD()) return fail("bus error");
  for (uint64_t i = 0; i < args[3].n / 8; i++) store(at + 8 * i, 8, pattern(args[4].n, i));
  unguard();
  return true;
}

/* bar-check BDF BAR OFFSET LENGTH SEED: says how many words differ, and the first one's offset. */
static bool bar_check(const union arg* args) {
  volatile uint64_t wrong = 0;
  volatile uint64_t first = 0;
  uint8_t* at = locate(args, args[3].n);
  if (at == NULL) return false;
  if (GUARD()) return fail("bus error");
  for (uint64_t i = 0; i < args[3].n / 8; i++) {
    if (load(at + 8 * i, 8) == pattern(args[4].n, i)) continue;
    if (wrong++ == 0) first = 8 * i;
  }
  unguard();
  say("wrong=%llu first=0x%llx", (unsigned long long)wrong, (unsigned long long)first);
  return true;
}

/*
 * bar-count BDF BAR OFFSET LENGTH STRIDE WORD: of the 8-byte words at every STRIDE bytes, how many
 * are WORD, and how many are not 0.
 */
static bool bar_count(const union arg* args) {
  volatile uint64_t equal = 0;
  volatile uint64_t nonzero = 0;
  if (args[4].n == 0 || args[4].n % 8 != 0) return fail("the stride is in words");
  uint8_t* at = locate(args, args[3].n);
  if (at == NULL) return false;
  if (GUARD()) return fail("bus error");
  for (uint64_t i = 0; i + 8 <= args[3].n; i += args[4].n) {
    uint64_t word = load(at + i, 8);
    if (word == 0) continue;
    nonzero++;
    if (word == args[5].n) equal++;
  }
  unguard();
  say("%llu %llu", (unsigned long long)equal, (unsigned long long)nonzero);
  return true;
}

/* bar-close: unmaps all BARs. Do this before a driver is bound or unbound. */
static bool bar_close(const union arg* args) {
  (void)args;
  pci_unmap_all();
  return true;
}

const struct command pci_commands[] = {
    {"pci-list", "", pci_list},        {"pci-resources", "s", pci_resources},
    {"cfg-dump", "s", cfg_dump},       {"cfg-read", "snn", cfg_read},
    {"cfg-write", "snnn", cfg_write},  {"bar-read", "snnn", bar_read},
    {"bar-write", "snnnn", bar_write}, {"bar-fill", "snnnn", bar_fill},
    {"bar-check", "snnnn", bar_check}, {"bar-count", "snnnnn", bar_count},
    {"bar-close", "", bar_close},      {NULL, NULL, NULL},
};
