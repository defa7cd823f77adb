/*
 * A poll-mode vhost-user-net backend, for a 32-bit Linux guest with no driver for the
 * device: BARs through /sys resource files, rxq and txq in memory that the kernel was told to leave
 * alone (memmap=), through /dev/mem. Every packet goes back where it came from. It serves one
 * frontend after the other, and believes none of them: what it refuses, it prints and ignores.
 *
 * usage: echo PHYSICAL_ADDRESS_OF_RESERVED_MEMORY
 */
#include <fcntl.h>
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost_user.h"

enum { COMMON = 1, NOTIFY = 2, DEVICE = 4, SHARED_MEMORY = 8, CFG_TYPES = 9, CAP_VENDOR = 9 };
enum { SIZE = 16, MESSAGE = 4608, RXQ = 0, TXQ = 1, DESC_WRITE = 2 };
enum { SLAVE_UP = 1, MASTER_UP = 2, MAX_PACKET = 2048, MAX_RING = 32768 };

/* A queue between this driver and the device, in reserved memory. */
struct queue {
  volatile struct descriptor* desc;
  volatile uint16_t* avail;
  volatile uint16_t* used;
  uint8_t* buffers;
  uint32_t buffers_physical;
  uint16_t next, seen, notify_offset;
};

static volatile uint8_t* structures[CFG_TYPES];
static uint32_t notify_multiplier, window_size;
static struct queue queues[2];
static struct {
  uint64_t guest, user, size;
  uint32_t at;
} regions[MAX_REGIONS];
static unsigned region_count;
static struct {
  uint32_t size, desc, avail, used;
  uint16_t last, done;
  int enabled;
} rings[2];
static unsigned packets;

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static void* map(const char* path, uint32_t offset, uint32_t length) {
  int fd = open(path, O_RDWR | O_SYNC);
  void* at =
      fd < 0 ? MAP_FAILED : mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  if (at == MAP_FAILED) fail(path);
  close(fd);
  return at;
}

static void find_structures(const char* folder) {
  uint8_t config[256];
  char path[256];
  snprintf(path, sizeof(path), "%s/enable", folder);
  int fd = open(path, O_WRONLY);
  if (fd < 0 || write(fd, "1", 1) != 1) fail(path);
  close(fd);
  snprintf(path, sizeof(path), "%s/config", folder);
  fd = open(path, O_RDWR);
  if (fd < 0 || pread(fd, config, sizeof(config), 0) != sizeof(config)) fail(path);
  uint16_t command = config[4] | config[5] << 8;
  command |= 0x406; /* memory, bus master, no INTx */
  if (pwrite(fd, &command, 2, 4) != 2) fail(path);
  close(fd);
  void* bars[6] = {0};
  for (unsigned at = config[0x34]; at != 0; at = config[at + 1]) {
    uint8_t type = config[at + 3], bar = config[at + 4];
    uint32_t offset;
    if (config[at] != CAP_VENDOR || type >= CFG_TYPES || type == 5 || bar > 5) continue;
    memcpy(&offset, config + at + 8, 4);
    if (type == NOTIFY) memcpy(&notify_multiplier, config + at + 16, 4);
    if (type == SHARED_MEMORY) memcpy(&window_size, config + at + 12, 4);
    if (bars[bar] == NULL) {
      struct stat info;
      snprintf(path, sizeof(path), "%s/resource%u", folder, bar);
      if (stat(path, &info) != 0) fail(path);
      bars[bar] = map(path, 0, info.st_size);
    }
    structures[type] = (uint8_t*)bars[bar] + offset;
    printf("capability type %u: BAR %u offset 0x%x\n", type, bar, offset);
  }
  if (!structures[COMMON] || !structures[NOTIFY] || !structures[DEVICE] ||
      !structures[SHARED_MEMORY]) {
    fprintf(stderr, "a structure is missing\n");
    exit(1);
  }
}

static volatile uint32_t* reg32(int type, int at) {
  return (volatile uint32_t*)(structures[type] + at);
}
static volatile uint16_t* reg16(int type, int at) {
  return (volatile uint16_t*)(structures[type] + at);
}

static void notify(int index) {
  *reg16(NOTIFY, queues[index].notify_offset * notify_multiplier) = index;
}

static void offer(int index, uint32_t length) {
  struct queue* queue = &queues[index];
  uint16_t slot = queue->next % SIZE;
  queue->desc[slot].address = queue->buffers_physical + slot * MESSAGE;
  queue->desc[slot].length = length;
  queue->desc[slot].flags = index == RXQ ? DESC_WRITE : 0;
  queue->avail[2 + slot] = slot;
  __sync_synchronize();
  queue->avail[1] = ++queue->next;
  notify(index);
}

static void set_up_queue(int index, uint8_t* memory, uint32_t physical) {
  struct queue* queue = &queues[index];
  *reg16(COMMON, 22) = index;
  queue->notify_offset = *reg16(COMMON, 30);
  *reg16(COMMON, 24) = SIZE;
  memset(memory, 0, 4096);
  queue->desc = (void*)memory;
  queue->avail = (void*)(memory + 1024);
  queue->used = (void*)(memory + 2048);
  queue->buffers = memory + 4096;
  queue->buffers_physical = physical + 4096;
  for (int i = 0; i < 3; i++) {
    *reg32(COMMON, 32 + 8 * i) = physical + 1024 * i;
    *reg32(COMMON, 36 + 8 * i) = 0;
  }
  *reg16(COMMON, 28) = 1;
}

static void initialize(uint32_t physical) {
  uint8_t* memory = map("/dev/mem", physical, 1 << 20);
  volatile uint8_t* status = structures[COMMON] + 20;
  *status = 0;
  while (*status != 0) {
  }
  *status = 1;
  *status = 3;
  *reg32(COMMON, 8) = 0;
  *reg32(COMMON, 12) = 0;
  *reg32(COMMON, 8) = 1;
  *reg32(COMMON, 12) = 1; /* VIRTIO_F_VERSION_1 */
  *status = 11;
  if (!(*status & 8)) {
    fprintf(stderr, "features refused\n");
    exit(1);
  }
  set_up_queue(RXQ, memory, physical);
  set_up_queue(TXQ, memory + (1 << 19), physical + (1 << 19));
  *status = 15;
  for (int i = 0; i < SIZE; i++) offer(RXQ, MESSAGE);
  *reg32(DEVICE, 0) = SLAVE_UP;
}

/* The window by an address of the frontend: its place, or 0 if no region has it all. */
static uint8_t* window(uint64_t address, uint32_t length, int user) {
  for (unsigned i = 0; i < region_count; i++) {
    uint64_t start = user ? regions[i].user : regions[i].guest;
    if (address >= start && length <= regions[i].size &&
        address - start <= regions[i].size - length)
      return (uint8_t*)structures[SHARED_MEMORY] + regions[i].at + (uint32_t)(address - start);
  }
  return NULL;
}

static void reply(const struct message* request, uint64_t value, uint32_t size) {
  uint8_t* buffer = queues[TXQ].buffers + queues[TXQ].next % SIZE * MESSAGE;
  struct message answer = *request;
  answer.flags = REPLY;
  answer.size = size;
  answer.u64 = value;
  memcpy(buffer, &answer, VHOST_USER_HEADER + size);
  offer(TXQ, VHOST_USER_HEADER + size);
}

static void refuse(const char* what, uint64_t value) {
  printf("refused: %s 0x%llx\n", what, (unsigned long long)value);
}

/* Regions stand in the window one after the other, each behind as much as its offset in the file.
 */
static void take_table(const struct message* m) {
  uint64_t at = 0;
  region_count = 0;
  memset(rings, 0, sizeof(rings));
  if (m->table.count > MAX_REGIONS || m->size < 8 + 32 * m->table.count)
    return refuse("memory table of regions", m->table.count);
  for (unsigned i = 0; i < m->table.count; i++) {
    uint64_t size = m->table.regions[i].size, offset = m->table.regions[i].offset;
    if (size > window_size || offset > window_size || at + offset + size > window_size)
      return refuse("region beyond the window, of size", size);
    regions[i].guest = m->table.regions[i].guest;
    regions[i].user = m->table.regions[i].user;
    regions[i].size = size;
    regions[i].at = at + offset;
    at += offset + size;
  }
  region_count = m->table.count;
  printf("memory table: %u regions\n", region_count);
}

/* A ring's part in the window, aligned so that one 32-bit access reaches flags and idx. */
static uint32_t place(uint64_t user, uint32_t length) {
  uint8_t* at = (user & 3) == 0 ? window(user, length, 1) : NULL;
  if (at == NULL) refuse("ring outside of the memory table or unaligned, at", user);
  return (uint32_t)(uintptr_t)at;
}

static void set_size(unsigned index, uint32_t size) {
  memset(&rings[index], 0, sizeof(rings[index]));
  if (size == 0 || size > MAX_RING || (size & (size - 1)) != 0) return refuse("ring size", size);
  rings[index].size = size;
}

static void set_addresses(unsigned index, const struct message* m) {
  uint32_t size = rings[index].size;
  if (size == 0) return refuse("addresses before a size, of ring", index);
  rings[index].desc = place(m->addr.desc, 16 * size);
  rings[index].avail = place(m->addr.avail, 4 + 2 * size);
  rings[index].used = place(m->addr.used, 4 + 8 * size);
}

/* Messages about one ring; ADDR has the longest payload, the others have a vring state. */
static void handle_ring(const struct message* m) {
  unsigned index = m->state.index;
  if (m->size < (m->request == SET_VRING_ADDR ? 40 : 8)) return refuse("size", m->size);
  if (index > 1) return refuse("ring index", index);
  switch (m->request) {
    case SET_VRING_NUM:
      return set_size(index, m->state.num);
    case SET_VRING_BASE:
      rings[index].last = rings[index].done = m->state.num;
      break;
    case SET_VRING_ADDR:
      return set_addresses(index, m);
    case SET_VRING_ENABLE:
      rings[index].enabled = m->state.num == 1;
      break;
    case GET_VRING_BASE:
      rings[index].enabled = 0;
      reply(m, index | (uint64_t)rings[index].last << 32, 8);
      break;
  }
}

static void handle(const struct message* m) {
  switch (m->request) {
    case GET_FEATURES:
      reply(m, FEATURES, 8);
      break;
    case GET_PROTOCOL_FEATURES:
      reply(m, 0, 8);
      break;
    case SET_MEM_TABLE:
      take_table(m);
      break;
    case SET_VRING_NUM:
    case SET_VRING_BASE:
    case SET_VRING_ADDR:
    case SET_VRING_ENABLE:
    case GET_VRING_BASE:
      handle_ring(m);
      break;
  }
}

static int ready(int index) {
  return rings[index].enabled && rings[index].desc && rings[index].avail && rings[index].used;
}

/* flags and idx are one aligned word: v86 makes two accesses of a 16-bit one. */
static int pop(int index, uint16_t* head, struct descriptor* d) {
  uint16_t available = *(volatile uint32_t*)(uintptr_t)rings[index].avail >> 16;
  if (rings[index].last == available) return 0;
  if ((uint16_t)(available - rings[index].last) > rings[index].size) {
    refuse("available index", available);
    rings[index].enabled = 0;
    return 0;
  }
  uint32_t slot = rings[index].last++ % rings[index].size;
  *head = *(volatile uint16_t*)(uintptr_t)(rings[index].avail + 4 + 2 * slot);
  if (*head >= rings[index].size) {
    refuse("descriptor", *head);
    rings[index].enabled = 0;
    return 0;
  }
  memcpy(d, (void*)(uintptr_t)(rings[index].desc + 16 * *head), sizeof(*d));
  return 1;
}

static void push(int index, uint16_t head, uint32_t written) {
  volatile uint32_t* used = (volatile uint32_t*)(uintptr_t)rings[index].used;
  uint32_t slot = rings[index].done++ % rings[index].size;
  used[1 + 2 * slot] = head;
  used[2 + 2 * slot] = written;
  *used = 1 | (uint32_t)rings[index].done << 16; /* no kicks wanted */
}

static void echo(void) {
  static uint8_t packet[MAX_PACKET];
  struct descriptor in, out;
  uint16_t sent, room;
  while (ready(0) && ready(1) && pop(1, &sent, &in)) {
    uint8_t* from = window(in.address, in.length, 0);
    uint32_t length = from && in.length <= MAX_PACKET ? in.length : 0;
    if (length != 0) memcpy(packet, from, length);
    push(1, sent, 0);
    if (length < NET_HEADER || !pop(0, &room, &out)) continue;
    uint8_t* to = out.length >= length ? window(out.address, length, 0) : NULL;
    memset(packet, 0, NET_HEADER);
    packet[NET_HEADER - 2] = 1; /* num_buffers */
    if (to) memcpy(to, packet, length);
    push(0, room, to ? length : 0);
    packets++;
  }
}

static int poll_messages(int discard) {
  struct queue* rx = &queues[RXQ];
  if (rx->seen == rx->used[1]) return 0;
  uint32_t slot = *(volatile uint32_t*)(rx->used + 2 + 4 * (rx->seen++ % SIZE));
  if (!discard) {
    struct message m;
    memcpy(&m, rx->buffers + slot % SIZE * MESSAGE, sizeof(m));
    handle(&m);
  }
  offer(RXQ, MESSAGE);
  return 1;
}

int main(int argc, char** argv) {
  glob_t found;
  char* folder = NULL;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc != 2 || glob("/sys/bus/pci/devices/*", 0, NULL, &found) != 0) return 2;
  for (size_t i = 0; i < found.gl_pathc && !folder; i++) {
    char path[256], text[16] = "";
    snprintf(path, sizeof(path), "%s/device", found.gl_pathv[i]);
    FILE* file = fopen(path, "r");
    if (file && fgets(text, sizeof(text), file) && !strcmp(text, "0x1058\n"))
      folder = found.gl_pathv[i];
    if (file) fclose(file);
  }
  if (!folder) return 3;
  printf("virtio-vhost-user at %s\n", folder);
  find_structures(folder);
  initialize(strtoul(argv[1], NULL, 0));
  printf("BACKEND READY\n");
  for (int connected = 0;;) {
    uint32_t status = *reg32(DEVICE, 0);
    if (!(status & SLAVE_UP)) {
      while (poll_messages(1)) {
      }
      printf("frontend gone, echoed %u packets\n", packets);
      memset(rings, 0, sizeof(rings));
      region_count = packets = connected = 0;
      *reg32(DEVICE, 0) = SLAVE_UP;
      printf("BACKEND READY\n");
      continue;
    }
    if (!connected && (status & MASTER_UP)) {
      printf("frontend connected\n");
      connected = 1;
    }
    while (poll_messages(0)) {
    }
    echo();
  }
}
