import test from 'ava';

import { VvuError } from '../../src/errors.js';
import * as rig from './rig.js';
import {
  addresses,
  message,
  NEED_REPLY,
  region,
  REPLY,
  Rig,
  settle,
  state,
  table,
  u64,
} from './rig.js';

const PAGE = 0x1000n;
const good = region(0n, PAGE, 0x7000n);

/** What is wrong, request, payload, fds, code. Guests never see any of these. */
type Case = readonly [what: string, request: number, payload: string, fds: number, code: string];

/** Refused with a non-zero acknowledgement, or by dropping the frontend. */
const acknowledged: readonly Case[] = [
  ['request 0', 0, '', 0, 'UNKNOWN_REQUEST'],
  ['an unknown request with an fd', 45, '', 1, 'BAD_FDS'],
  ['an unknown request with eight fds', 0xffff_ffff, '', 8, 'BAD_FDS'],
  ['an unknown request that is too long', 45, '00'.repeat(1013), 0, 'BAD_PAYLOAD_SIZE'],
  [
    'SET_FEATURES that was not offered',
    rig.SET_FEATURES,
    u64(1n << 63n),
    0,
    'FEATURES_NOT_OFFERED',
  ],
  ['SET_FEATURES of 4 bytes', rig.SET_FEATURES, '00000000', 0, 'BAD_PAYLOAD_SIZE'],
  ['SET_FEATURES with an fd', rig.SET_FEATURES, u64(0n), 1, 'BAD_FDS'],
  [
    'a masked protocol feature',
    rig.SET_PROTOCOL_FEATURES,
    u64(1n << 8n),
    0,
    'FEATURES_NOT_OFFERED',
  ],
  [
    'an unknown protocol feature',
    rig.SET_PROTOCOL_FEATURES,
    u64(1n << 40n),
    0,
    'FEATURES_NOT_OFFERED',
  ],
  ['SET_OWNER with a payload', rig.SET_OWNER, '00', 0, 'BAD_PAYLOAD_SIZE'],
  ['SET_OWNER with eight fds', rig.SET_OWNER, '', 8, 'BAD_FDS'],
  ['a table without fds', rig.SET_MEM_TABLE, table(good), 0, 'BAD_FDS'],
  ['a table with an fd too few', rig.SET_MEM_TABLE, table(good, good), 1, 'BAD_FDS'],
  ['a table with an fd too many', rig.SET_MEM_TABLE, table(good), 2, 'BAD_FDS'],
  ['an empty table', rig.SET_MEM_TABLE, table(), 0, 'BAD_PAYLOAD'],
  ['an empty table with an fd', rig.SET_MEM_TABLE, table(), 1, 'BAD_PAYLOAD'],
  ['nine regions', rig.SET_MEM_TABLE, table(...Array<string>(9).fill(good)), 8, 'BAD_PAYLOAD'],
  ['a truncated table', rig.SET_MEM_TABLE, table(good).slice(0, 70), 1, 'BAD_PAYLOAD_SIZE'],
  ['a region of size 0', rig.SET_MEM_TABLE, table(region(0n, 0n, 0n)), 1, 'BAD_PAYLOAD'],
  [
    'an overflowing region',
    rig.SET_MEM_TABLE,
    table(region(-4096n & (2n ** 64n - 1n), 8192n, 0n)),
    1,
    'BAD_PAYLOAD',
  ],
  ['ADD_MEM_REG without an fd', rig.ADD_MEM_REG, u64(0n) + good, 0, 'BAD_FDS'],
  ['ADD_MEM_REG with two fds', rig.ADD_MEM_REG, u64(0n) + good, 2, 'BAD_FDS'],
  ['REM_MEM_REG with two fds', rig.REM_MEM_REG, u64(0n) + good, 2, 'BAD_FDS'],
  ['REM_MEM_REG of 32 bytes', rig.REM_MEM_REG, good, 0, 'BAD_PAYLOAD_SIZE'],
  ['SET_LOG_BASE with an address and no fd', rig.SET_LOG_BASE, u64(0n), 0, 'BAD_FDS'],
  ['SET_LOG_BASE without its fd', rig.SET_LOG_BASE, u64(1n) + u64(0n), 0, 'BAD_FDS'],
  ['SET_LOG_FD without an fd', rig.SET_LOG_FD, '', 0, 'BAD_FDS'],
  ['SET_LOG_FD with two fds', rig.SET_LOG_FD, '', 2, 'BAD_FDS'],
  ['a ring of size 0', rig.SET_VRING_NUM, state(0, 0), 0, 'BAD_QUEUE_SIZE'],
  ['a ring of size 100', rig.SET_VRING_NUM, state(0, 100), 0, 'BAD_QUEUE_SIZE'],
  ['a ring of size 65536', rig.SET_VRING_NUM, state(0, 65536), 0, 'BAD_QUEUE_SIZE'],
  ['a ring of size 2^31', rig.SET_VRING_NUM, state(0, 2 ** 31), 0, 'BAD_QUEUE_SIZE'],
  ['the size of ring 8 of 8', rig.SET_VRING_NUM, state(8, 256), 0, 'BAD_VRING'],
  ['the size of ring 2^32-1', rig.SET_VRING_NUM, state(0xffff_ffff, 256), 0, 'BAD_VRING'],
  ['addresses before a table', rig.SET_VRING_ADDR, addresses(0, 0n, 0n, 0n), 0, 'NO_MEMORY_TABLE'],
  ['addresses of ring 8', rig.SET_VRING_ADDR, addresses(8, 0n, 0n, 0n), 0, 'BAD_VRING'],
  ['a base above 16 bits', rig.SET_VRING_BASE, state(0, 0x10000), 0, 'BAD_VRING_BASE'],
  ['the base of ring 8', rig.SET_VRING_BASE, state(8, 0), 0, 'BAD_VRING'],
  ['a kick without fd and without the flag', rig.SET_VRING_KICK, u64(0n), 0, 'BAD_FDS'],
  ['a kick with fd and with the flag', rig.SET_VRING_KICK, u64(0x100n), 1, 'BAD_FDS'],
  ['a kick with two fds', rig.SET_VRING_KICK, u64(0n), 2, 'BAD_FDS'],
  ['a kick of ring 255', rig.SET_VRING_KICK, u64(0xffn), 1, 'BAD_VRING'],
  ['a kick with bit 9', rig.SET_VRING_KICK, u64(0x200n), 1, 'BAD_PAYLOAD'],
  ['a call without fd and without the flag', rig.SET_VRING_CALL, u64(1n), 0, 'BAD_FDS'],
  ['a call with fd and with the flag', rig.SET_VRING_CALL, u64(0x101n), 1, 'BAD_FDS'],
  ['a call of ring 8', rig.SET_VRING_CALL, u64(8n), 1, 'BAD_VRING'],
  ['an err of ring 8, without fd', rig.SET_VRING_ERR, u64(0x108n), 0, 'BAD_VRING'],
  ['an err of 4 bytes', rig.SET_VRING_ERR, '00000000', 1, 'BAD_PAYLOAD_SIZE'],
  ['ring 8 enabled', rig.SET_VRING_ENABLE, state(8, 1), 0, 'BAD_VRING'],
  ['a ring enabled by 2', rig.SET_VRING_ENABLE, state(0, 2), 0, 'BAD_PAYLOAD'],
  ['an MTU of 65536', 20, u64(0x10000n), 0, 'BAD_PAYLOAD'],
  ['SET_BACKEND_REQ_FD without an fd', rig.SET_BACKEND_REQ_FD, '', 0, 'BAD_FDS'],
  ['SET_BACKEND_REQ_FD with two fds', rig.SET_BACKEND_REQ_FD, '', 2, 'BAD_FDS'],
  ['SET_VRING_ENDIAN of ring 8', 23, state(8, 0), 0, 'BAD_VRING'],
  ['SET_CONFIG whose size lies', 25, '00000000ffff000000000000', 0, 'BAD_PAYLOAD_SIZE'],
  ['POSTCOPY_LISTEN, masked', 29, '', 0, 'NOT_NEGOTIATED'],
  ['SET_INFLIGHT_FD without its fd', 32, '00'.repeat(24), 0, 'BAD_FDS'],
  ['SET_INFLIGHT_FD of 8 bytes', 32, u64(0n), 1, 'BAD_PAYLOAD_SIZE'],
  ['GPU_SET_SOCKET', 33, '', 1, 'NOT_SERVED'],
  ['an in-band kick of ring 8', rig.VRING_KICK, state(8, 0), 0, 'BAD_VRING'],
  ['an in-band kick with an fd', rig.VRING_KICK, state(0, 0), 1, 'BAD_FDS'],
  ['a device status of 9 bits', rig.SET_STATUS, u64(0x100n), 0, 'BAD_PAYLOAD'],
];

/** Refused by dropping the frontend in any case, as it waits for a reply of another kind. */
const dropped: readonly Case[] = [
  ['GET_FEATURES with a payload', rig.GET_FEATURES, u64(0n), 0, 'BAD_PAYLOAD_SIZE'],
  ['GET_FEATURES with an fd', rig.GET_FEATURES, '', 1, 'BAD_FDS'],
  ['SET_LOG_BASE with two fds', rig.SET_LOG_BASE, u64(1n) + u64(0n), 2, 'BAD_FDS'],
  ['SET_LOG_BASE with an fd and an address', rig.SET_LOG_BASE, u64(0n), 1, 'BAD_FDS'],
  ['the base of ring 2^32-1', rig.GET_VRING_BASE, state(0xffff_ffff, 0), 0, 'BAD_VRING'],
  ['an empty crypto session', 26, '', 0, 'BAD_PAYLOAD_SIZE'],
  ['POSTCOPY_ADVISE, masked', 28, '', 0, 'NOT_NEGOTIATED'],
  ['POSTCOPY_END, masked', 30, '', 0, 'NOT_NEGOTIATED'],
  ['GET_INFLIGHT_FD with an fd', 31, '00'.repeat(24), 1, 'BAD_FDS'],
  ['GET_INFLIGHT_FD of 8 bytes', 31, u64(0n), 0, 'BAD_PAYLOAD_SIZE'],
  ['SET_DEVICE_STATE_FD, masked', 42, state(0, 0), 1, 'NOT_NEGOTIATED'],
  ['CHECK_DEVICE_STATE, masked', 43, '', 0, 'NOT_NEGOTIATED'],
  ['GET_SHMEM_CONFIG, masked', 44, '', 0, 'NOT_NEGOTIATED'],
];

/** Refused by a reply of the request's own kind that says so, and what its payload is. */
const failed: readonly (readonly [...Case, answer: string])[] = [
  ['an IOTLB message without a vIOMMU', 22, '00'.repeat(32), 0, 'NOT_NEGOTIATED', u64(1n)],
  ['GET_CONFIG past the end', 24, 'ffffffff0000000000000000', 0, 'BAD_PAYLOAD', ''],
  ['GET_CONFIG with an fd', 24, '000000000100000000000000 00', 1, 'BAD_FDS', ''],
  ['GET_SHARED_OBJECT, masked', 41, '00'.repeat(16), 0, 'NOT_NEGOTIATED', ''],
];

for (const [what, request, payload, fds, code, answer] of failed) {
  test(`${what} is answered by a reply that says so`, (t) => {
    for (const flags of [0, NEED_REPLY]) {
      const r = new Rig().negotiate();
      r.frontend(message(request, payload, flags), fds);
      t.deepEqual(r.traffic(), { guest: [], frontend: [message(request, answer, REPLY)] });
      t.like(r.log.at(-1), { level: 'warn', text: 'request refused', fields: { code } });
      t.is(r.closedWith, undefined);
      t.is(r.fds.open.size, 0);
    }
  });
}

for (const [what, request, payload, fds, code] of acknowledged) {
  test(`with need_reply, ${what} is acknowledged by an error`, (t) => {
    const r = new Rig().negotiate();
    r.frontend(message(request, payload, NEED_REPLY), fds);
    t.deepEqual(r.traffic(), { guest: [], frontend: [message(request, u64(1n), REPLY)] });
    t.is(r.fds.open.size, 0);
    t.like(r.log.at(-1), { level: 'warn', text: 'request refused', fields: { code } });
    // The connection goes on.
    r.frontend(message(rig.GET_STATUS));
    t.deepEqual(r.traffic().guest, [message(rig.GET_STATUS)]);
    t.is(r.closedWith, undefined);
  });
}

for (const [what, request, payload, fds, code] of [...acknowledged, ...dropped]) {
  test(`without need_reply, ${what} ends the connection`, (t) => {
    const r = new Rig().negotiate();
    r.frontend(message(request, payload), fds);
    t.deepEqual(r.traffic(), { guest: [], frontend: [] });
    t.is(r.closedWith, code);
    t.true(r.socket.closed);
    t.is(r.fds.open.size, 0);
  });
}

for (const [what, request, payload, fds, code] of dropped) {
  test(`with need_reply, ${what} ends the connection too`, (t) => {
    const r = new Rig().negotiate();
    r.frontend(message(request, payload, NEED_REPLY), fds);
    t.deepEqual(r.traffic(), { guest: [], frontend: [] });
    t.is(r.closedWith, code);
    t.is(r.fds.open.size, 0);
  });
}

const streams: readonly (readonly [string, string, number, string])[] = [
  ['version 0', '01000000 00000000 00000000', 0, 'BAD_HEADER'],
  ['version 2', '01000000 02000000 00000000', 8, 'BAD_HEADER'],
  ['a reserved flag', '01000000 11000000 00000000', 1, 'BAD_HEADER'],
  ['a size that is not the payload', '01000000 01000000 08000000', 1, 'BAD_HEADER'],
  ['a message in the other byte order', '00000001 00000001 00000000', 0, 'BAD_HEADER'],
  ['a reply', message(rig.GET_FEATURES, u64(0n), REPLY), 2, 'UNEXPECTED_REPLY'],
];
for (const [what, hex, fds, code] of streams) {
  test(`a stream with ${what} ends the connection`, (t) => {
    const r = new Rig().negotiate();
    r.frontend(hex.replaceAll(' ', ''), fds);
    t.is(r.closedWith, code);
    t.is(r.fds.open.size, 0);
    t.deepEqual(r.traffic(), { guest: [], frontend: [] });
  });
}

test('before negotiation: what needs a feature, and accepting what was never offered', (t) => {
  for (const [request, payload, code] of [
    [rig.GET_QUEUE_NUM, '', 'NOT_NEGOTIATED'],
    [rig.SET_STATUS, u64(0n), 'NOT_NEGOTIATED'],
    [rig.SET_FEATURES, u64(1n), 'FEATURES_NOT_OFFERED'],
    [rig.SET_PROTOCOL_FEATURES, u64(1n), 'FEATURES_NOT_OFFERED'],
  ] as const) {
    const r = new Rig();
    r.frontend(message(request, payload, NEED_REPLY));
    t.is(r.closedWith, code);
  }
  const without = new Rig();
  without.exchange(rig.GET_FEATURES, u64(1n));
  without.frontend(message(rig.GET_PROTOCOL_FEATURES));
  t.is(without.closedWith, 'NOT_NEGOTIATED');
});

test('a feature that was offered and not accepted is refused after SET_PROTOCOL_FEATURES', (t) => {
  const r = new Rig().negotiate(0x8n);
  r.frontend(message(rig.SET_STATUS, u64(0n), NEED_REPLY));
  t.deepEqual(r.traffic(), { guest: [], frontend: [message(rig.SET_STATUS, u64(1n), REPLY)] });
});

test('ring addresses that are not aligned, or not in the memory', async (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.SET_MEM_TABLE, table(region(0n, PAGE, 0x7000n))), 1);
  await settle();
  for (const [desc, used, avail] of [
    [0x7008n, 0x7800n, 0x7400n],
    [0x7000n, 0x7802n, 0x7400n],
    [0x7000n, 0x7800n, 0x7401n],
    [0x6ff0n, 0x7800n, 0x7400n],
    [0x7000n, 0x8000n, 0x7400n],
    [0x7000n, 0x7800n, 0n],
  ] as const) {
    r.forget();
    r.frontend(message(rig.SET_VRING_ADDR, addresses(0, desc, used, avail), NEED_REPLY));
    t.deepEqual(r.traffic(), {
      guest: [],
      frontend: [message(rig.SET_VRING_ADDR, u64(1n), REPLY)],
    });
  }
  t.is(r.leaks(), 0);
});

test('what the device refuses is refused: memory, kicks, doorbells', async (t) => {
  const requests = [
    [rig.SET_MEM_TABLE, table(good)],
    [rig.ADD_MEM_REG, u64(0n) + good],
    [rig.SET_VRING_KICK, u64(0n)],
    [rig.SET_VRING_CALL, u64(0n)],
    [rig.SET_VRING_ERR, u64(0n)],
    [rig.SET_LOG_FD, ''],
  ] as const;
  for (const [request, payload] of requests) {
    const r = new Rig().negotiate();
    r.backend.error = new VvuError('NO_ROOM', 'request', 'the device says no');
    r.frontend(message(request, payload, NEED_REPLY), 1);
    await settle();
    t.deepEqual(r.traffic(), { guest: [], frontend: [message(request, u64(1n), REPLY)] });
    r.backend.error = new VvuError('NO_ROOM', 'request', 'the device says no');
    r.frontend(message(request, payload), 1);
    await settle();
    t.is(r.closedWith, 'NO_ROOM');
    t.is(r.fds.open.size, 0);
  }
});

test('a refused table leaves the old one', async (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.SET_MEM_TABLE, table(good)), 1);
  await settle();
  r.backend.error = new VvuError('NO_ROOM', 'request', 'the device says no');
  r.frontend(message(rig.SET_MEM_TABLE, table(region(0n, PAGE, 0xf000n)), NEED_REPLY), 1);
  await settle();
  r.forget();
  r.frontend(message(rig.SET_VRING_ADDR, addresses(0, 0x7000n, 0x7800n, 0x7400n)));
  t.is(r.traffic().guest.length, 1);
});

test('an error of the device while the guest is told ends the session, not the process', (t) => {
  const r = new Rig().negotiate();
  r.backend.error = new VvuError('RXQ_BUFFER_TOO_SMALL', 'device', 'too small');
  r.frontend(message(rig.SET_OWNER));
  t.is(r.closedWith, 'RXQ_BUFFER_TOO_SMALL');
  t.true(r.socket.closed);
});
