import test from 'ava';

import * as rig from './rig.js';
import { message, NEED_REPLY, region, REPLY, Rig, settle, state, table, u64 } from './rig.js';

// What frontends with several queue pairs do: old versions of QEMU are one frontend per pair, on
// one connection.

const RAM = region(0n, 0x1000_0000n, 0x7f00_0000_0000n, 0n);
const RAM_SHOWN = region(0n, 0x1000_0000n, 0x7f00_0000_0000n, 0xabc000n);
const add = message(rig.ADD_MEM_REG, u64(0n) + RAM, NEED_REPLY);
const remove = message(rig.REM_MEM_REG, u64(0n) + RAM, NEED_REPLY);
const done = (request: number): string => message(request, u64(0n), REPLY);

test('a region that is added once per queue pair reaches the guest once', async (t) => {
  const r = new Rig().negotiate();
  r.frontend(add, 1);
  await settle();
  t.deepEqual(r.traffic().guest, [message(rig.ADD_MEM_REG, u64(0n) + RAM_SHOWN, NEED_REPLY)]);
  // The second comes before the guest has answered the first: its answer waits for its turn.
  r.frontend(add, 1);
  await settle();
  t.deepEqual(r.traffic(), { guest: [], frontend: [] });
  r.guest(done(rig.ADD_MEM_REG));
  const twice = [done(rig.ADD_MEM_REG), done(rig.ADD_MEM_REG)];
  t.deepEqual(r.traffic(), { guest: [], frontend: twice });

  r.frontend(remove);
  await settle();
  t.deepEqual(r.traffic(), { guest: [], frontend: [done(rig.REM_MEM_REG)] });
  r.frontend(message(rig.SET_VRING_ADDR, rig.addresses(0, ...RING)));
  t.is(r.traffic().guest.length, 1, 'the memory is still there');
  r.frontend(remove);
  await settle();
  t.deepEqual(r.traffic().guest, [message(rig.REM_MEM_REG, u64(0n) + RAM_SHOWN, NEED_REPLY)]);
  r.guest(done(rig.REM_MEM_REG));
  t.deepEqual(r.traffic().frontend, [done(rig.REM_MEM_REG)]);
  t.is(r.closedWith, undefined);
  t.is(r.leaks(), 0);
});

const RING = [0x7f00_0000_1000n, 0x7f00_0000_2000n, 0x7f00_0000_3000n] as const;

test('a repeated region needs no further slot, and no answer unless it asks for one', async (t) => {
  const r = new Rig({ maxMemorySlots: 1 }).negotiate();
  r.frontend(add, 1);
  await settle();
  r.guest(done(rig.ADD_MEM_REG));
  r.forget();
  r.frontend(message(rig.ADD_MEM_REG, u64(0n) + RAM), 1);
  await settle();
  t.deepEqual(r.traffic(), { guest: [], frontend: [] });
  t.is(r.closedWith, undefined);
  t.is(r.leaks(), 0);
});

test('the owner is set once, and again after a reset', (t) => {
  const r = new Rig().negotiate();
  r.frontend(message(rig.SET_OWNER));
  r.frontend(message(rig.SET_OWNER));
  t.deepEqual(r.traffic(), { guest: [message(rig.SET_OWNER)], frontend: [] });
  r.frontend(message(rig.SET_OWNER, '', NEED_REPLY));
  t.deepEqual(r.traffic(), { guest: [], frontend: [done(rig.SET_OWNER)] });
  const resets = [message(rig.RESET_OWNER), message(rig.RESET_OWNER), message(rig.SET_OWNER)];
  for (const hex of resets) r.frontend(hex);
  t.deepEqual(r.traffic(), { guest: resets, frontend: [] });
  t.is(r.closedWith, undefined);
});

test('a memory table and the number of queues may be asked for once per queue pair', async (t) => {
  const r = new Rig({}, 4).negotiate();
  const memory = message(rig.SET_MEM_TABLE, table(RAM), NEED_REPLY);
  for (const pair of [0, 1]) {
    r.frontend(memory, 1);
    await settle();
    r.guest(done(rig.SET_MEM_TABLE));
    const { guest, frontend } = r.traffic();
    t.deepEqual(frontend, [done(rig.SET_MEM_TABLE)], `pair ${pair}`);
    t.is(guest.length, 1);
    r.exchange(rig.GET_QUEUE_NUM, u64(0x8000n));
    t.deepEqual(r.traffic().frontend, [message(rig.GET_QUEUE_NUM, u64(4n), REPLY)], 'as few');
  }
  t.is(r.closedWith, undefined);
  t.is(r.leaks(), 0);
});

test('rings are enabled one by one; those that do not exist get their answer', (t) => {
  const r = new Rig({}, 4).negotiate();
  for (const index of [0, 3]) {
    const enable = message(rig.SET_VRING_ENABLE, state(index, 1), NEED_REPLY);
    r.frontend(enable);
    t.deepEqual(r.traffic().guest, [enable]);
    r.guest(done(rig.SET_VRING_ENABLE));
    t.deepEqual(r.traffic().frontend, [done(rig.SET_VRING_ENABLE)]);
  }
  const failed = (request: number): string => message(request, u64(1n), REPLY);
  r.frontend(message(rig.SET_VRING_ENABLE, state(4, 1), NEED_REPLY));
  r.frontend(message(rig.SET_VRING_NUM, state(4, 256), NEED_REPLY));
  r.frontend(message(rig.SET_VRING_CALL, u64(4n), NEED_REPLY), 1);
  t.deepEqual(r.traffic(), {
    guest: [],
    frontend: [rig.SET_VRING_ENABLE, rig.SET_VRING_NUM, rig.SET_VRING_CALL].map(failed),
  });
  // Who waits for a reply that has no place for an error is told by the end of the connection.
  r.frontend(message(rig.GET_VRING_BASE, state(4, 0)));
  t.is(r.closedWith, 'BAD_VRING');
  t.is(r.leaks(), 0);
});
