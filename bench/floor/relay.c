/* The least that passing a signal on can cost: each signal of eventfd 3 becomes one of eventfd 4.
 */
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SOURCE = 3, TARGET = 4 };

int main(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  puts("ready");
  fflush(stdout);
  struct pollfd entry = {.fd = SOURCE, .events = POLLIN};
  const uint64_t one = 1;
  uint64_t count;
  while (poll(&entry, 1, -1) == 1) {
    if (read(SOURCE, &count, sizeof(count)) != sizeof(count)) continue;
    if (write(TARGET, &one, sizeof(one)) != sizeof(one)) return 1;
  }
  return 1;
}
