/*
 * The least that a register access over a socket can cost: blocking C on both sides.
 *
 *   pingpong serve PATH        answers vfio-user region accesses with zeros, checks nothing
 *   pingpong ping PATH COUNT   reads 4 bytes up to COUNT times, prints the nanoseconds of each
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct access {
  uint16_t id;
  uint16_t command;
  uint32_t size;
  uint32_t flags;
  uint32_t error;
  uint64_t offset;
  uint32_t region;
  uint32_t count;
  uint8_t data[64];
};

enum { PREFIX = 32, REGION_READ = 9, REPLY = 1 };
/* As in latency.ts: between two operations, and for all of them. */
enum { PAUSE_NS = 50000, ROUND_NS = 150000000 };

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static int open_socket(const char* path, struct sockaddr_un* address) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
  return fd;
}

/* A peer that waits for each reply never has more than one message under way. */
static void answer(int fd) {
  struct access message;
  while (recv(fd, &message, sizeof(message), 0) >= PREFIX) {
    size_t data = message.command == REGION_READ ? message.count : 0;
    if (data > sizeof(message.data)) exit(1);
    memset(message.data, 0, data);
    message.flags = REPLY;
    message.size = PREFIX + data;
    if (send(fd, &message, message.size, MSG_NOSIGNAL) < 0) exit(1);
  }
  exit(0);
}

static void serve(const char* path) {
  struct sockaddr_un address;
  int fd = open_socket(path, &address);
  if (bind(fd, (struct sockaddr*)&address, sizeof(address)) != 0) fail("bind");
  if (listen(fd, 8) != 0) fail("listen");
  signal(SIGCHLD, SIG_IGN);
  puts("ready");
  fflush(stdout);
  for (;;) {
    int client = accept(fd, NULL, NULL);
    if (client < 0) fail("accept");
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      answer(client);
    }
    close(client);
  }
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void ping(const char* path, int count) {
  struct sockaddr_un address;
  int fd = open_socket(path, &address);
  if (connect(fd, (struct sockaddr*)&address, sizeof(address)) != 0) fail("connect");
  uint64_t* times = calloc((size_t)count, sizeof(*times));
  if (times == NULL) fail("calloc");
  struct access request = {.command = REGION_READ, .size = PREFIX, .count = 4};
  struct access reply;
  const uint64_t end = now() + ROUND_NS;
  int done = 0;
  while (done < count && now() < end) {
    uint64_t start = now();
    while (now() - start < PAUSE_NS);
    start = now();
    if (send(fd, &request, PREFIX, 0) != PREFIX) fail("send");
    if (recv(fd, &reply, sizeof(reply), 0) != PREFIX + 4) fail("recv");
    times[done++] = now() - start;
  }
  for (int i = 0; i < done; i++) printf("%llu\n", (unsigned long long)times[i]);
}

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc == 3 && strcmp(argv[1], "serve") == 0) serve(argv[2]);
  if (argc != 4 || strcmp(argv[1], "ping") != 0) return 2;
  ping(argv[2], atoi(argv[3]));
  return 0;
}
