/*
 * Command loop of the guest probe, see probe.h. Commands of its own: help, sh, reboot, poweroff.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LINE = 16384, MAX_ARGS = 8 };

static FILE* port;
static const char* sequence; /* of the request at hand */
static char reason[512];

void say(const char* format, ...) {
  va_list list;
  va_start(list, format);
  fputs("= ", port);
  vfprintf(port, format, list);
  fputc('\n', port);
  va_end(list);
}

void say_hex(const void* data, size_t length) {
  const uint8_t* bytes = data;
  fputs("= ", port);
  for (size_t i = 0; i < length; i++) fprintf(port, "%02x", bytes[i]);
  fputc('\n', port);
}

bool fail(const char* format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(reason, sizeof(reason), format, list);
  va_end(list);
  return false;
}

bool fail_errno(const char* what) { return fail("%s: %s", what, strerror(errno)); }

uint64_t now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

sigjmp_buf guard_jump;
static volatile sig_atomic_t guarded;

static void on_fault(int signal_number) {
  if (guarded) {
    guarded = 0;
    siglongjmp(guard_jump, 1);
  }
  /* Not ours: die as usual once the handler returns and the access faults again. */
  signal(signal_number, SIG_DFL);
}

void guard_arm(void) { guarded = 1; }
void unguard(void) { guarded = 0; }

bool width_ok(uint64_t width) {
  if (width == 1 || width == 2 || width == 4 || width == 8) return true;
  return fail("width must be 1, 2, 4 or 8");
}

uint64_t load(const volatile void* address, unsigned width) {
  switch (width) {
    case 1:
      return *(const volatile uint8_t*)address;
    case 2:
      return *(const volatile uint16_t*)address;
    case 4:
      return *(const volatile uint32_t*)address;
    default:
      return *(const volatile uint64_t*)address;
  }
}

void store(volatile void* address, unsigned width, uint64_t value) {
  switch (width) {
    case 1:
      *(volatile uint8_t*)address = (uint8_t)value;
      break;
    case 2:
      *(volatile uint16_t*)address = (uint16_t)value;
      break;
    case 4:
      *(volatile uint32_t*)address = (uint32_t)value;
      break;
    default:
      *(volatile uint64_t*)address = value;
  }
}

/* sh COMMAND: runs it with busybox' shell, says each line of output, and the exit status. */
static bool run_shell(const union arg* args) {
  char line[4096];
  FILE* pipe_end = popen(args[0].s, "r");
  if (pipe_end == NULL) return fail_errno("popen");
  while (fgets(line, sizeof(line), pipe_end) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    say("%s", line);
  }
  int status = pclose(pipe_end);
  if (status == 0) return true;
  if (WIFEXITED(status)) return fail("exit status %d", WEXITSTATUS(status));
  return fail("wait status 0x%x", (unsigned)status);
}

static bool stop_machine(int how) {
  fprintf(port, "ok %s\n", sequence);
  fflush(port);
  tcdrain(fileno(port));
  reboot(how);
  return fail_errno("reboot");
}

static bool run_reboot(const union arg* args) {
  (void)args;
  return stop_machine(RB_AUTOBOOT);
}

static bool run_poweroff(const union arg* args) {
  (void)args;
  return stop_machine(RB_POWER_OFF);
}

static bool run_help(const union arg* args);

static const struct command own_commands[] = {
    {"help", "", run_help},         {"sh", "*", run_shell}, {"reboot", "", run_reboot},
    {"poweroff", "", run_poweroff}, {NULL, NULL, NULL},
};

static const struct command* const tables[] = {own_commands, pci_commands, vfio_commands,
                                               memory_commands, backend_commands};
enum { TABLES = sizeof(tables) / sizeof(tables[0]) };

static bool run_help(const union arg* args) {
  (void)args;
  for (unsigned t = 0; t < TABLES; t++)
    for (const struct command* c = tables[t]; c->name != NULL; c++)
      say("%s %s", c->name, c->signature);
  return true;
}

static const struct command* find(const char* name) {
  for (unsigned t = 0; t < TABLES; t++)
    for (const struct command* c = tables[t]; c->name != NULL; c++)
      if (strcmp(c->name, name) == 0) return c;
  return NULL;
}

static bool parse_number(const char* word, uint64_t* value) {
  char* end = NULL;
  errno = 0;
  *value = strtoull(word, &end, 0);
  return errno == 0 && end != word && *end == '\0';
}

static bool parse(const char* signature, char* rest, union arg* args) {
  for (unsigned i = 0; signature[i] != '\0'; i++) {
    char* word = signature[i] == '*' ? rest : strsep(&rest, " ");
    if (word == NULL || *word == '\0') return fail("argument %u is missing", i + 1);
    args[i].s = word;
    if (signature[i] == 'n' && !parse_number(word, &args[i].n))
      return fail("argument %u is not a number: %s", i + 1, word);
    if (signature[i] == '*') return true;
  }
  return rest == NULL || *rest == '\0' || fail("too many arguments");
}

static bool dispatch(char* line) {
  union arg args[MAX_ARGS] = {0};
  char* rest = line;
  const char* name = strsep(&rest, " ");
  const struct command* command = find(name);
  if (command == NULL) return fail("no such command: %s", name);
  return parse(command->signature, rest, args) && command->run(args);
}

static bool open_port(const char* path) {
  int fd = open(path, O_RDWR | O_NOCTTY);
  if (fd < 0) return false;
  struct termios settings;
  if (tcgetattr(fd, &settings) == 0) {
    cfmakeraw(&settings);
    cfsetspeed(&settings, B115200);
    tcsetattr(fd, TCSANOW, &settings);
  }
  /* Two streams' worth of buffering on one descriptor: reads go through `input` in main(). */
  port = fdopen(fd, "w");
  return port != NULL;
}

int main(int argc, char** argv) {
  static char line[MAX_LINE];
  if (argc != 2 || !open_port(argv[1])) {
    perror("probe: cannot open the serial port");
    return 1;
  }
  FILE* input = fdopen(dup(fileno(port)), "r");
  if (input == NULL) return 1;
  signal(SIGBUS, on_fault);
  signal(SIGSEGV, on_fault);
  fputs("agent ready\n", port);
  fflush(port);
  while (fgets(line, sizeof(line), input) != NULL) {
    line[strcspn(line, "\r\n")] = '\0';
    char* rest = line;
    sequence = strsep(&rest, " ");
    if (rest == NULL) continue;
    reason[0] = '\0';
    if (dispatch(rest))
      fprintf(port, "ok %s\n", sequence);
    else
      fprintf(port, "error %s %s\n", sequence, reason);
    fflush(port);
  }
  return 0;
}
