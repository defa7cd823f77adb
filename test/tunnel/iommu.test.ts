import test from 'ava';

import * as rig from './rig.js';
import { addresses, iotlb, message, NEED_REPLY, REPLY, Rig, settle, u64 } from './rig.js';

const MISS = 1;
const UPDATE = 2;
const INVALIDATE = 3;
const ACCESS_FAIL = 4;
const IOMMU = 1n << 33n;

/** A session with a vIOMMU and one region of memory at user address 0x7000. */
async function behindIommu(): Promise<Rig> {
  const r = new Rig().negotiate(rig.TUNNELLED_PROTOCOL_FEATURES, 0x1_4000_0000n | IOMMU);
  r.openChannel();
  r.frontend(message(rig.SET_MEM_TABLE, rig.table(rig.region(0n, 0x1000n, 0x7000n))), 1);
  await settle();
  return r.forget();
}

test('IOTLB messages pass, and are answered', async (t) => {
  const r = await behindIommu();
  const update = iotlb(0xffff_0000n, 0x1000n, 0x7000n, UPDATE);
  const invalidate = iotlb(0n, 0xffff_ffff_ffff_ffffn, 0n, INVALIDATE);
  r.frontend(message(rig.IOTLB_MSG, update, NEED_REPLY));
  // Its reply must come, yet DPDK sends it only to NEED_REPLY.
  r.frontend(message(rig.IOTLB_MSG, invalidate));
  t.deepEqual(r.traffic(), {
    guest: [
      message(rig.IOTLB_MSG, update, NEED_REPLY),
      message(rig.IOTLB_MSG, invalidate, NEED_REPLY),
    ],
    frontend: [],
  });
  r.guest(message(rig.IOTLB_MSG, u64(0n), REPLY));
  r.guest(message(rig.IOTLB_MSG, u64(5n), REPLY));
  t.deepEqual(r.traffic().frontend, [
    message(rig.IOTLB_MSG, u64(0n), REPLY),
    message(rig.IOTLB_MSG, u64(5n), REPLY),
  ]);
  t.is(r.leaks(), 0);
});

test('IOTLB misses of the guest pass over the channel', async (t) => {
  const r = await behindIommu();
  const miss = message(rig.BACKEND_IOTLB_MSG, iotlb(0x5000n, 0n, 0n, MISS));
  const fail = message(rig.BACKEND_IOTLB_MSG, iotlb(0x5000n, 0n, 0n, ACCESS_FAIL), NEED_REPLY);
  r.guest(miss);
  r.guest(fail);
  t.deepEqual(r.channel.sent, [miss, fail]);
  r.channel.says(message(rig.BACKEND_IOTLB_MSG, u64(0n), REPLY));
  t.deepEqual(r.traffic().guest, [message(rig.BACKEND_IOTLB_MSG, u64(0n), REPLY)]);
});

test('each side has its own types of IOTLB messages', async (t) => {
  for (const type of [UPDATE, INVALIDATE]) {
    const r = await behindIommu();
    r.guest(message(rig.BACKEND_IOTLB_MSG, iotlb(0n, 0x1000n, 0x7000n, type), NEED_REPLY));
    t.deepEqual(r.channel.sent, []);
    t.deepEqual(r.traffic().guest, [message(rig.BACKEND_IOTLB_MSG, u64(1n), REPLY)]);
  }
  for (const type of [MISS, ACCESS_FAIL, 0, 5]) {
    const r = await behindIommu();
    r.frontend(message(rig.IOTLB_MSG, iotlb(0n, 0x1000n, 0x7000n, type), NEED_REPLY));
    t.deepEqual(r.traffic(), { guest: [], frontend: [message(rig.IOTLB_MSG, u64(1n), REPLY)] });
  }
});

test('an IOTLB entry outside of the memory table is refused', async (t) => {
  const r = await behindIommu();
  r.frontend(message(rig.IOTLB_MSG, iotlb(0n, 0x1000n, 0x8000n, UPDATE), NEED_REPLY));
  t.deepEqual(r.traffic(), { guest: [], frontend: [message(rig.IOTLB_MSG, u64(1n), REPLY)] });
  t.is(r.closedWith, undefined);
});

test('ring addresses are IOVAs behind a vIOMMU, and addresses of the memory without', async (t) => {
  const r = await behindIommu();
  const iovas = addresses(0, 0xfff0_0000n, 0xfff0_2000n, 0xfff0_1000n);
  r.frontend(message(rig.SET_VRING_ADDR, iovas, NEED_REPLY));
  t.deepEqual(r.traffic().guest, [message(rig.SET_VRING_ADDR, iovas, NEED_REPLY)]);
  r.guest(message(rig.SET_VRING_ADDR, u64(0n), REPLY));
  r.forget();
  // Alignment counts all the same.
  const crooked = addresses(0, 0xfff0_0008n, 0xfff0_2000n, 0xfff0_1000n);
  r.frontend(message(rig.SET_VRING_ADDR, crooked, NEED_REPLY));
  t.deepEqual(r.traffic(), {
    guest: [],
    frontend: [message(rig.SET_VRING_ADDR, u64(1n), REPLY)],
  });
  r.frontend(message(rig.SET_FEATURES, u64(0x1_4000_0000n)));
  r.forget();
  r.frontend(message(rig.SET_VRING_ADDR, iovas, NEED_REPLY));
  t.deepEqual(r.traffic().guest, []);
});

test('without the feature there are no IOTLB messages', (t) => {
  const r = new Rig().negotiate();
  r.openChannel();
  r.frontend(message(rig.IOTLB_MSG, iotlb(0n, 0n, 0n, INVALIDATE), NEED_REPLY));
  t.deepEqual(r.traffic(), { guest: [], frontend: [message(rig.IOTLB_MSG, u64(1n), REPLY)] });
});
