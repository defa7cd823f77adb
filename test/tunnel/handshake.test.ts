import test from 'ava';

import { VvuError } from '../../src/errors.js';
import * as rig from './rig.js';
import {
  addresses,
  makeGate,
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

const RAM = region(0n, 0x4000_0000n, 0x7f00_0000_0000n, 0n);
const HIGH = region(0x1_0000_0000n, 0x4000_0000n, 0x7f00_4000_0000n, 0x4000_0000n);
/** The same regions as the fake window shows them. */
const RAM_SHOWN = region(0n, 0x4000_0000n, 0x7f00_0000_0000n, 0xabc000n);
const HIGH_SHOWN = region(0x1_0000_0000n, 0x4000_0000n, 0x7f00_4000_0000n, 0xabc001n);

test("QEMU's start of vhost-user-net passes, masked and rewritten where it must be", async (t) => {
  const r = new Rig();
  t.deepEqual(r.socket.framing?.maxMessage, 4108);

  r.frontend(message(rig.GET_FEATURES));
  r.guest(message(rig.GET_FEATURES, u64(0x1_7000_8000n), REPLY));
  r.frontend(message(rig.GET_PROTOCOL_FEATURES));
  r.guest(message(rig.GET_PROTOCOL_FEATURES, u64(rig.ALL_PROTOCOL_FEATURES), REPLY));
  t.deepEqual(r.traffic(), {
    guest: [message(rig.GET_FEATURES), message(rig.GET_PROTOCOL_FEATURES)],
    frontend: [
      message(rig.GET_FEATURES, u64(0x1_7000_8000n), REPLY),
      message(rig.GET_PROTOCOL_FEATURES, u64(rig.TUNNELLED_PROTOCOL_FEATURES), REPLY),
    ],
  });

  // MQ, REPLY_ACK, MTU, CONFIG; without memory slots QEMU sends whole tables.
  const accepted = message(rig.SET_PROTOCOL_FEATURES, u64(0x219n));
  r.frontend(accepted);
  r.frontend(message(rig.GET_QUEUE_NUM));
  r.guest(message(rig.GET_QUEUE_NUM, u64(128n), REPLY));
  r.frontend(message(rig.SET_OWNER));
  t.deepEqual(r.traffic(), {
    guest: [accepted, message(rig.GET_QUEUE_NUM), message(rig.SET_OWNER)],
    frontend: [message(rig.GET_QUEUE_NUM, u64(8n), REPLY)],
  });

  for (const [request, call] of [
    [rig.SET_VRING_CALL, 'call'],
    [rig.SET_VRING_ERR, 'err'],
  ] as const) {
    for (const index of [0n, 1n]) {
      r.frontend(message(request, u64(index), NEED_REPLY), 1);
      r.guest(message(request, u64(0n), REPLY));
      t.deepEqual(r.backend.calls, [`${call} ${index} fd`]);
      t.deepEqual(r.traffic(), {
        guest: [message(request, u64(index), NEED_REPLY)],
        frontend: [message(request, u64(0n), REPLY)],
      });
    }
  }

  r.frontend(message(rig.SET_FEATURES, u64(0x1_4000_8000n)));
  r.frontend(message(rig.SET_MEM_TABLE, table(RAM, HIGH), NEED_REPLY), 2);
  t.deepEqual(r.backend.calls, ['set 0 100000000']);
  await settle();
  r.guest(message(rig.SET_MEM_TABLE, u64(0n), REPLY));
  t.deepEqual(r.traffic(), {
    guest: [
      message(rig.SET_FEATURES, u64(0x1_4000_8000n)),
      message(rig.SET_MEM_TABLE, table(RAM_SHOWN, HIGH_SHOWN), NEED_REPLY),
    ],
    frontend: [message(rig.SET_MEM_TABLE, u64(0n), REPLY)],
  });

  const rings = [0, 1].flatMap((index) => [
    message(rig.SET_VRING_NUM, state(index, 256)),
    message(rig.SET_VRING_BASE, state(index, 0)),
    message(
      rig.SET_VRING_ADDR,
      addresses(index, 0x7f00_0001_0000n, 0x7f00_4000_2000n, 0x7f00_0001_1000n),
    ),
  ]);
  rings.forEach((hex) => r.frontend(hex));
  t.deepEqual(r.traffic(), { guest: rings, frontend: [] });

  r.frontend(message(rig.SET_VRING_KICK, u64(0n)), 1);
  r.frontend(message(rig.SET_VRING_CALL, u64(0x100n)));
  r.frontend(message(rig.SET_VRING_ENABLE, state(0, 1), NEED_REPLY));
  r.guest(message(rig.SET_VRING_ENABLE, u64(0n), REPLY));
  t.deepEqual(r.backend.calls, ['kick 0 fd', 'call 0 none']);
  t.deepEqual(r.traffic().frontend, [message(rig.SET_VRING_ENABLE, u64(0n), REPLY)]);

  r.frontend(message(rig.GET_VRING_BASE, state(0, 0)));
  r.guest(message(rig.GET_VRING_BASE, state(0, 7), REPLY));
  t.deepEqual(r.traffic().frontend, [message(rig.GET_VRING_BASE, state(0, 7), REPLY)]);
  t.is(r.closedWith, undefined);
  t.is(r.leaks(), 0);
});

test('memory regions come and go one by one with CONFIGURE_MEM_SLOTS', async (t) => {
  const r = new Rig({ maxMemorySlots: 2 }).negotiate();
  r.exchange(rig.GET_MAX_MEM_SLOTS, u64(509n));
  t.deepEqual(r.traffic().frontend, [message(rig.GET_MAX_MEM_SLOTS, u64(2n), REPLY)]);

  r.frontend(message(rig.ADD_MEM_REG, u64(0n) + RAM), 1);
  r.frontend(message(rig.ADD_MEM_REG, u64(0n) + HIGH), 1);
  await settle();
  t.deepEqual(r.backend.calls, ['add 0', 'add 100000000']);
  t.deepEqual(r.traffic().guest, [
    message(rig.ADD_MEM_REG, u64(0n) + RAM_SHOWN),
    message(rig.ADD_MEM_REG, u64(0n) + HIGH_SHOWN.slice(0, 48) + u64(0xabc000n)),
  ]);

  r.frontend(message(rig.ADD_MEM_REG, u64(0n) + region(0x9000n, 0x1000n, 0x9000n), NEED_REPLY), 1);
  await settle();
  t.deepEqual(r.backend.calls, [], 'no third slot');
  t.deepEqual(r.traffic().frontend, [message(rig.ADD_MEM_REG, u64(1n), REPLY)]);

  // Some frontends send an fd with the removal: closed at once, unused.
  const before = r.fds.open.size;
  r.frontend(message(rig.REM_MEM_REG, u64(0n) + RAM), 1);
  t.is(r.fds.open.size, before);
  r.frontend(message(rig.ADD_MEM_REG, u64(0n) + region(0x9000n, 0x1000n, 0x9000n)), 1);
  await settle();
  t.deepEqual(r.backend.calls, ['remove 0', 'add 9000']);
  t.is(r.closedWith, undefined);
  t.is(r.leaks(), 0);
});

test('ring addresses follow the memory table', async (t) => {
  const r = new Rig().negotiate();
  const addr = message(rig.SET_VRING_ADDR, addresses(0, 0x9000n, 0x9800n, 0x9400n), NEED_REPLY);
  r.frontend(message(rig.ADD_MEM_REG, u64(0n) + region(0n, 0x1000n, 0x9000n)), 1);
  await settle();
  r.frontend(addr);
  t.deepEqual(r.traffic().frontend, []);
  r.guest(message(rig.SET_VRING_ADDR, u64(0n), REPLY));
  r.frontend(message(rig.REM_MEM_REG, u64(0n) + region(0n, 0x1000n, 0x9000n)));
  await settle();
  r.forget();
  r.frontend(addr);
  t.deepEqual(r.traffic(), {
    guest: [],
    frontend: [message(rig.SET_VRING_ADDR, u64(1n), REPLY)],
  });
  t.is(r.leaks(), 0);
});

test('packed rings may have any size, and use all bits of their base', (t) => {
  // VERSION_1, RING_PACKED and protocol features.
  const packed = new Rig().negotiate(undefined, 0x5_4000_0000n);
  packed.frontend(message(rig.SET_VRING_NUM, state(0, 100)));
  packed.frontend(message(rig.SET_VRING_BASE, state(0, 0x8000_8000)));
  t.is(packed.closedWith, undefined);
  t.is(packed.traffic().guest.length, 2);
});

test('SET_LOG_BASE shows the log and tells the guest its place', async (t) => {
  const r = new Rig().negotiate(undefined, 0x1_4000_0000n | (1n << 26n));
  t.is(r.closedWith, undefined, 'VHOST_F_LOG_ALL reaches the guest');
  // The place comes later than the next request, which waits for it.
  const gate = makeGate();
  r.backend.gate = gate.closed;
  r.frontend(message(rig.SET_LOG_BASE, u64(0x2000n) + u64(0x1000n)), 1);
  r.frontend(message(rig.SET_OWNER));
  t.deepEqual(r.backend.calls, ['log 2000 1000']);
  t.deepEqual(r.traffic().guest, []);
  gate.open();
  await settle();
  const told = message(rig.SET_LOG_BASE, u64(0x2000n) + u64(0xdef000n));
  t.deepEqual(r.traffic(), { guest: [told, message(rig.SET_OWNER)], frontend: [] });
  const reply = message(rig.SET_LOG_BASE, u64(0n), REPLY);
  r.guest(reply);
  t.deepEqual(r.traffic().frontend, [reply], 'a reply of its own, whether or not it was asked for');
  t.is(r.leaks(), 0);
});

test('a log that the window cannot show costs the frontend its connection', async (t) => {
  const r = new Rig().negotiate();
  r.backend.error = new VvuError('WINDOW_FULL', 'request', 'no room');
  r.frontend(message(rig.SET_LOG_BASE, u64(0x2000n) + u64(0n)), 1);
  await settle();
  t.is(r.closedWith, 'WINDOW_FULL', 'it waits for a reply and does not look into it');
  t.deepEqual(r.traffic().guest, []);
  t.is(r.leaks(), 0);
});

test('ring addresses are told with the flag and the address of the log', async (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.SET_MEM_TABLE, table(region(0n, 0x10000n, 0n))), 1);
  await settle();
  r.forget();
  const plain = addresses(0, 0n, 0x2000n, 0x1000n);
  const logged = `${plain.slice(0, 8)}01000000${plain.slice(16, -16)}${u64(0xabcd000n)}`;
  r.frontend(message(rig.SET_VRING_ADDR, logged));
  t.deepEqual(r.traffic().guest, [message(rig.SET_VRING_ADDR, logged)]);
});

test('SET_LOG_FD binds the log doorbell and passes', (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.SET_LOG_FD), 1);
  t.deepEqual(r.backend.calls, ['log 0 fd']);
  t.deepEqual(r.traffic().guest, [message(rig.SET_LOG_FD)]);
  t.is(r.leaks(), 0);
});

test('need_reply without REPLY_ACK is not passed on, and nothing is expected', (t) => {
  const r = new Rig().negotiate(1n);
  r.frontend(message(rig.SET_OWNER, '', NEED_REPLY));
  r.guest(message(rig.SET_OWNER, u64(0n), REPLY));
  t.deepEqual(r.traffic(), { guest: [message(rig.SET_OWNER)], frontend: [] });
  t.is(r.closedWith, undefined);
});

test('virtio features pass as they are', (t) => {
  const r = new Rig();
  r.exchange(rig.GET_FEATURES, u64(rig.ALL_FEATURES));
  t.deepEqual(r.traffic().frontend, [message(rig.GET_FEATURES, u64(rig.ALL_FEATURES), REPLY)]);
});

test('what the guest does not offer is not added', (t) => {
  const r = new Rig();
  r.exchange(rig.GET_FEATURES, u64(0x4000_0000n));
  r.exchange(rig.GET_PROTOCOL_FEATURES, u64(0x9n));
  r.forget();
  r.frontend(message(rig.SET_PROTOCOL_FEATURES, u64(0x9n)));
  r.exchange(rig.GET_QUEUE_NUM, u64(3n));
  t.deepEqual(r.traffic().frontend, [message(rig.GET_QUEUE_NUM, u64(3n), REPLY)]);
});
