/*
 * A vhost-user backend that knows nothing of the device: it echoes the packets of one queue pair.
 * It does what a backend from elsewhere does: listens on a socket, maps each region with
 * mmap(size + mmap_offset), sleeps on kick eventfds and signals call eventfds.
 *
 * Each event is a line of JSON in LOG. Errors end the process, which is a child of the probe.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "probe.h"
#include "vhost_user.h"

#define LOG "/tmp/backend.out"

enum { RX = 0, TX = 1, RINGS = 2, NO_FD = 1 << 8, INDEX = 0xff };

static struct {
  uint64_t guest, user, size, mapped;
  uint8_t* base;
} regions[MAX_REGIONS];
static unsigned region_count;

static struct {
  uint32_t size;
  uint16_t last;
  int kick, call;
  struct descriptor* desc;
  volatile uint16_t* avail;
  volatile uint16_t* used;
} rings[RINGS];

static unsigned kicks, calls, packets;
static int log_fd;

static void* translate(uint64_t address, uint64_t length, bool user) {
  for (unsigned i = 0; i < region_count; i++) {
    uint64_t at = address - (user ? regions[i].user : regions[i].guest);
    if (at < regions[i].size && length <= regions[i].size - at) return regions[i].base + at;
  }
  dprintf(log_fd, "{\"event\":\"error\",\"reason\":\"address 0x%llx\"}\n",
          (unsigned long long)address);
  exit(1);
}

static void map_table(const struct message* m, const int* fds) {
  for (unsigned i = 0; i < m->table.count && i < MAX_REGIONS; i++) {
    uint64_t offset = m->table.regions[i].offset;
    regions[i].guest = m->table.regions[i].guest;
    regions[i].user = m->table.regions[i].user;
    regions[i].size = m->table.regions[i].size;
    regions[i].mapped = regions[i].size + offset;
    void* base = mmap(NULL, regions[i].mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
    close(fds[i]);
    if (base == MAP_FAILED) {
      dprintf(log_fd, "{\"event\":\"error\",\"reason\":\"mmap: %s\"}\n", strerror(errno));
      exit(1);
    }
    regions[i].base = (uint8_t*)base + offset;
    region_count = i + 1;
    dprintf(log_fd, "{\"event\":\"mapped\",\"size\":%llu,\"offset\":%llu}\n",
            (unsigned long long)regions[i].size, (unsigned long long)offset);
  }
}

static void set_fd(int* slot, const struct message* m, const int* fds) {
  if (*slot >= 0) close(*slot);
  *slot = (m->u64 & NO_FD) ? -1 : fds[0];
}

static void use_buffer(unsigned ring, uint16_t head, uint32_t written) {
  volatile uint16_t* used = rings[ring].used;
  uint32_t entry[2] = {head, written};
  memcpy((uint8_t*)used + 4 + 8 * (used[1] % rings[ring].size), entry, sizeof(entry));
  __atomic_thread_fence(__ATOMIC_RELEASE);
  used[1]++;
  rings[ring].last++;
}

/* Copies one packet of TX into one buffer of RX; both are single descriptors or chains. */
static bool echo_one(void) {
  if (rings[TX].last == rings[TX].avail[1] || rings[RX].last == rings[RX].avail[1]) return false;
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  uint16_t from = rings[TX].avail[2 + rings[TX].last % rings[TX].size];
  uint16_t to = rings[RX].avail[2 + rings[RX].last % rings[RX].size];
  struct descriptor target = rings[RX].desc[to];
  uint8_t* out = translate(target.address, target.length, false);
  uint32_t done = 0;
  for (uint16_t i = from;; i = rings[TX].desc[i].next) {
    struct descriptor source = rings[TX].desc[i];
    if (done + source.length > target.length) break;
    memcpy(out + done, translate(source.address, source.length, false), source.length);
    done += source.length;
    if (!(source.flags & DESC_NEXT)) break;
  }
  memset(out, 0, NET_HEADER);
  out[NET_HEADER - 2] = 1; /* num_buffers */
  use_buffer(RX, to, done);
  use_buffer(TX, from, 0);
  packets++;
  return true;
}

static bool running(void) { return rings[RX].avail != NULL && rings[TX].avail != NULL; }

static void echo_all(void) {
  uint64_t one = 1;
  unsigned before = packets;
  if (!running()) return;
  while (echo_one()) continue;
  if (packets == before) return;
  /* Whether the frontend wants calls is not asked: the test counts them. */
  for (unsigned i = 0; i < RINGS; i++)
    if (rings[i].call >= 0 && write(rings[i].call, &one, sizeof(one)) == sizeof(one)) calls++;
}

static void reply(int socket, struct message* m, uint32_t size) {
  m->flags = REPLY;
  m->size = size;
  if (write(socket, m, VHOST_USER_HEADER + size) < 0) exit(1);
}

static void handle(int socket, struct message* m, const int* fds) {
  switch (m->request) {
    case GET_FEATURES:
      m->u64 = FEATURES;
      reply(socket, m, 8);
      break;
    case GET_PROTOCOL_FEATURES:
      m->u64 = 0;
      reply(socket, m, 8);
      break;
    case SET_MEM_TABLE:
      map_table(m, fds);
      break;
    case SET_VRING_NUM:
      rings[m->state.index % RINGS].size = m->state.num;
      break;
    case SET_VRING_BASE:
      rings[m->state.index % RINGS].last = (uint16_t)m->state.num;
      break;
    case SET_VRING_ADDR: {
      unsigned i = m->addr.index % RINGS;
      uint64_t size = rings[i].size;
      rings[i].desc = translate(m->addr.desc, 16 * size, true);
      rings[i].used = translate(m->addr.used, 4 + 8 * size, true);
      rings[i].avail = translate(m->addr.avail, 4 + 2 * size, true);
      break;
    }
    case SET_VRING_KICK:
      set_fd(&rings[(m->u64 & INDEX) % RINGS].kick, m, fds);
      break;
    case SET_VRING_CALL:
      set_fd(&rings[(m->u64 & INDEX) % RINGS].call, m, fds);
      break;
    case GET_VRING_BASE:
      rings[m->state.index % RINGS].avail = NULL;
      m->state.num = rings[m->state.index % RINGS].last;
      reply(socket, m, 8);
      break;
    default: /* SET_OWNER, SET_FEATURES, SET_VRING_ENABLE and what asks for no answer */
      break;
  }
}

static bool receive(int socket) {
  struct message m = {0};
  char control[CMSG_SPACE(MAX_REGIONS * sizeof(int))];
  int fds[MAX_REGIONS];
  struct iovec part = {&m, VHOST_USER_HEADER};
  struct msghdr header = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  memset(fds, -1, sizeof(fds));
  if (recvmsg(socket, &header, MSG_CMSG_CLOEXEC) != VHOST_USER_HEADER) return false;
  struct cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights != NULL) memcpy(fds, CMSG_DATA(rights), rights->cmsg_len - CMSG_LEN(0));
  if (m.size > sizeof(m) - VHOST_USER_HEADER) return false;
  if (m.size > 0 &&
      recv(socket, (uint8_t*)&m + VHOST_USER_HEADER, m.size, MSG_WAITALL) != (ssize_t)m.size)
    return false;
  handle(socket, &m, fds);
  return true;
}

static void serve(int socket) {
  kicks = calls = packets = 0;
  for (unsigned i = 0; i < RINGS; i++) rings[i].kick = rings[i].call = -1;
  dprintf(log_fd, "{\"event\":\"connected\"}\n");
  for (;;) {
    struct pollfd fds[] = {
        {socket, POLLIN, 0}, {rings[RX].kick, POLLIN, 0}, {rings[TX].kick, POLLIN, 0}};
    /* A ring without a kick eventfd is to be polled. */
    bool polling = running() && (rings[RX].kick < 0 || rings[TX].kick < 0);
    poll(fds, 3, polling ? 1 : -1);
    for (unsigned i = 0; i < RINGS; i++) {
      uint64_t count;
      if (fds[1 + i].revents != 0 && read(fds[1 + i].fd, &count, 8) == 8) kicks++;
    }
    if (fds[0].revents != 0 && !receive(socket)) break;
    echo_all();
  }
  dprintf(log_fd, "{\"event\":\"served\",\"packets\":%u,\"kicks\":%u,\"calls\":%u}\n", packets,
          kicks, calls);
  for (unsigned i = 0; i < RINGS; i++) {
    if (rings[i].kick >= 0) close(rings[i].kick);
    if (rings[i].call >= 0) close(rings[i].call);
    rings[i].avail = NULL;
  }
  while (region_count > 0) {
    region_count--;
    munmap(regions[region_count].base + regions[region_count].size - regions[region_count].mapped,
           regions[region_count].mapped);
  }
}

/* backend SOCKET: starts it; says its process id. */
static bool run_backend(const union arg* args) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof(address.sun_path), "%s", args[0].s);
  unlink(args[0].s);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr*)&address, sizeof(address)) < 0 ||
      listen(listener, 1) < 0)
    return fail_errno(args[0].s);
  pid_t child = fork();
  if (child < 0) return fail_errno("fork");
  if (child > 0) {
    close(listener);
    say("%d", child);
    return true;
  }
  log_fd = open(LOG, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) exit(1);
    serve(connection);
    close(connection);
  }
}

const struct command backend_commands[] = {
    {"backend", "s", run_backend},
    {NULL, NULL, NULL},
};
