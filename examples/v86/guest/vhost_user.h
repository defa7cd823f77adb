/*
 * What a vhost-user-net backend in C needs of the protocol, and of split virtqueues: for the
 * backend of this example, and for the one of the VM tests (test/vm/guest/backend.c).
 */
#ifndef VVU_VHOST_USER_H_
#define VVU_VHOST_USER_H_

#include <stdint.h>

enum {
  GET_FEATURES = 1,
  SET_MEM_TABLE = 5,
  SET_VRING_NUM = 8,
  SET_VRING_ADDR = 9,
  SET_VRING_BASE = 10,
  GET_VRING_BASE = 11,
  SET_VRING_KICK = 12,
  SET_VRING_CALL = 13,
  GET_PROTOCOL_FEATURES = 15,
  SET_VRING_ENABLE = 18,
};
/* Flags of a reply: version 1, REPLY. Bytes before a payload. struct virtio_net_hdr's bytes. */
enum { REPLY = 5, VHOST_USER_HEADER = 12, NET_HEADER = 12 };
enum { MAX_REGIONS = 8, DESC_NEXT = 1 };
/* VIRTIO_F_VERSION_1 and VHOST_USER_F_PROTOCOL_FEATURES. */
#define FEATURES (1ull << 32 | 1ull << 30)

struct descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
struct message {
  uint32_t request, flags, size;
  union {
    uint64_t u64;
    struct {
      uint32_t index, num;
    } state;
    struct {
      uint32_t index, flags;
      uint64_t desc, used, avail, log;
    } addr;
    struct {
      uint32_t count, padding;
      struct {
        uint64_t guest, size, user, offset;
      } regions[MAX_REGIONS];
    } table;
  };
} __attribute__((packed));

#endif
