/*
 * The guest side of the VM tests: one static program that a test drives over a serial port.
 *
 * Requests are lines, "SEQ COMMAND ARGUMENT...". Every answer is any number of "= TEXT" lines and
 * then "ok SEQ" or "error SEQ REASON", so that an answer which comes after the test gave up on it
 * is recognised. The program decides nothing: it touches hardware and reports; test code on the
 * host decodes and judges.
 */
#ifndef VVU_TEST_PROBE_H_
#define VVU_TEST_PROBE_H_

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One parsed argument; which member is set follows from the command's signature. */
union arg {
  const char *s;
  uint64_t n;
};

/*
 * A command. `signature` has one letter per argument: 's' a word, 'n' a number in C notation,
 * '*' the rest of the line. `run` returns false after fail().
 */
struct command {
  const char *name;
  const char *signature;
  bool (*run)(const union arg *args);
};

extern const struct command pci_commands[];
extern const struct command vfio_commands[];
extern const struct command memory_commands[];
extern const struct command backend_commands[];

/* probe.c: answers. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_hex(const void *data, size_t length);
bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool fail_errno(const char *what);
uint64_t now_ms(void);

/*
 * probe.c: accesses to memory that may go away (a BAR that a driver claimed, a revoked mapping).
 *
 *     if (GUARD()) return fail("bus error");
 *     ... touch ...
 *     unguard();
 */
extern sigjmp_buf guard_jump;
void guard_arm(void);
void unguard(void);
#define GUARD() (sigsetjmp(guard_jump, 1) != 0 || (guard_arm(), false))

/* probe.c: one access of 1, 2, 4 or 8 bytes, as exactly one instruction. */
bool width_ok(uint64_t width);
uint64_t load(const volatile void *address, unsigned width);
void store(volatile void *address, unsigned width, uint64_t value);

/* vfio.c: what pci.c and memory.c need when the device is open through VFIO. */
bool vfio_is_open(void);
/* True when `bdf` is the device that vfio-open opened. */
bool vfio_owns(const char *bdf);
/* Maps a region of the open device; NULL with errno set when that cannot be done. */
void *vfio_map_region(unsigned index, uint64_t *size);
bool vfio_dma_map(void *address, uint64_t iova, uint64_t size);
bool vfio_dma_unmap(uint64_t iova, uint64_t size);

/* pci.c: forget the mappings of a device's BARs (its driver is about to change). */
void pci_unmap_all(void);

/* memory.c: drop every buffer; with the VFIO container gone, its mappings are gone too. */
void memory_forget_all(void);

#endif
