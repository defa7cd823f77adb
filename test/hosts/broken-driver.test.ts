import test, { type ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { u32, u64 } from '../malformed/vhost-user-inputs.js';
import {
  CONFIG_VECTOR,
  QUEUE_ENABLE,
  QUEUE_SELECT,
  QUEUE_SIZE,
  QUEUE_VECTOR,
  RawGuest,
} from '../support/raw-guest.js';
import {
  GET_FEATURES,
  RESET_OWNER,
  ask,
  connectFrontend,
  ended,
  plain,
  startRawRig,
  type RawRig,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/*
 * Guests that break every rule of the rings and of the status protocol: the device asks for a
 * reset, lets go of its frontend, and serves the next one after the reset.
 */
const rig = async (t: ExecutionContext, setup = {}): Promise<RawRig> => startRawRig(t, { setup });
const DATA = RawGuest.IOVA + 0x90_000;
const WRITE = 2;
const INDIRECT = 4;
const NEXT = 1;
const FEATURE_INDIRECT = 2 ** 28;

/** A reply to GET_FEATURES, as good as the driver's. */
const REPLY = Buffer.concat([u32(GET_FEATURES, 5, 8), u64(1n << 32n)]);

async function serves(t: ExecutionContext, { device, guest }: RawRig): Promise<void> {
  const frontend = connectFrontend(t, device);
  t.not(await ask(guest, frontend, plain(GET_FEATURES)), 'dropped');
  frontend.close();
  await until(() => guest.linkStatus === 0, 'the end of the connection');
}

const TXQ: Record<string, (guest: RawGuest) => void> = {
  'an index far ahead': ({ txq }) => (txq.availIndex = 5000),
  'an index that went back': ({ txq }) => (txq.availIndex = 0xffff),
  'a head that is no descriptor': ({ txq }) => txq.offer(64),
  'an empty descriptor': ({ txq }) => {
    txq.descriptor(0, DATA, 0, 0);
    txq.offer(0);
  },
  'an address that is not mapped': ({ txq }) => {
    txq.descriptor(0, 0x10, 20, 0);
    txq.offer(0);
  },
  'a buffer that ends behind the memory': ({ txq }) => {
    txq.descriptor(0, RawGuest.IOVA + 2 ** 20 - 8, 20, 0);
    txq.offer(0);
  },
  'a chain that is a loop': ({ txq }) => {
    txq.descriptor(0, DATA, 1, NEXT, 1);
    txq.descriptor(1, DATA, 1, NEXT, 0);
    txq.offer(0);
  },
  'a message of 32 KiB': ({ txq }) => {
    txq.descriptor(0, DATA, 32768, 0);
    txq.offer(0);
  },
  'an indirect table that was not negotiated': ({ txq }) => {
    txq.descriptor(0, DATA, 16, INDIRECT);
    txq.offer(0);
  },
  'a buffer that is no vhost-user message': (guest) => guest.send(Buffer.alloc(20, 0xee)),
  'a buffer without anything to read': ({ txq }) => {
    txq.descriptor(0, DATA, 20, WRITE);
    txq.offer(0);
  },
};

for (const [name, corrupt] of Object.entries(TXQ)) {
  test(`txq: ${name}`, async (t) => {
    const { device, guest } = await rig(t);
    const frontend = connectFrontend(t, device);
    await until(() => guest.linkStatus === 3, 'the connection');
    corrupt(guest);
    guest.kick(1);
    t.true(guest.needsReset);
    t.is(guest.linkStatus, 0);
    await ended(frontend);
    // Nothing that it does now has any effect, until it resets the device.
    guest.linkStatus = 1;
    guest.kick(0);
    guest.status = 0x4f;
    t.is(guest.linkStatus, 0);
    guest.start();
    t.false(guest.needsReset);
    guest.linkStatus = 1;
    await serves(t, { device, guest });
  });
}

test('a txq that is broken when the driver comes up: frontends wait for the next try', async (t) => {
  const { device, guest } = await rig(t);
  guest.start();
  guest.txq.availIndex = 5000;
  guest.linkStatus = 1;
  t.true(guest.needsReset);
  const frontend = connectFrontend(t, device);
  frontend.send(plain(GET_FEATURES));
  await sleep(200);
  t.is(frontend.closed, undefined);
  guest.start();
  guest.linkStatus = 1;
  t.not(await ask(guest, frontend, plain(GET_FEATURES)), 'dropped');
});

test('messages through indirect tables, in both directions', async (t) => {
  const { device, guest } = await rig(t, { featuresLow: FEATURE_INDIRECT, rxBuffer: 0 });
  const frontend = connectFrontend(t, device);
  const table = Buffer.alloc(48);
  const at = DATA + 4096;
  const put = (index: number, address: number, length: number, flags: number): void => {
    table.writeBigUInt64LE(BigInt(address), 16 * index);
    table.writeUInt32LE(length, 16 * index + 8);
    table.writeUInt16LE(flags, 16 * index + 12);
    table.writeUInt16LE(index + 1, 16 * index + 14);
  };
  // 5, 7 and 100 bytes: the header is cut.
  [5, 7, 100].forEach((length, i) => put(i, DATA + 512 * i, length, WRITE | (i < 2 ? NEXT : 0)));
  guest.memory.write(at - RawGuest.IOVA, table);
  guest.rxq.descriptor(9, at, 48, INDIRECT);
  guest.rxq.offer(9);
  guest.kick(0);
  frontend.send(plain(GET_FEATURES));
  await until(() => guest.rxq.usedIndex === 1, 'the message');
  t.deepEqual(guest.rxq.take(), { id: 9, length: 12 });
  const parts = [0, 512].map((i) => guest.memory.read(DATA - RawGuest.IOVA + i, i === 0 ? 5 : 7));
  t.deepEqual(Buffer.concat(parts), plain(GET_FEATURES));

  guest.memory.write(DATA - RawGuest.IOVA, REPLY);
  put(0, DATA, 13, NEXT);
  put(1, DATA + 13, 7, 0);
  guest.memory.write(at - RawGuest.IOVA, table);
  guest.txq.descriptor(3, at, 32, INDIRECT);
  guest.txq.offer(3);
  guest.kick(1);
  t.deepEqual(await frontend.next(), REPLY);
});

const RXQ: Record<string, (guest: RawGuest) => void> = {
  'an empty buffer': ({ rxq }) => {
    rxq.descriptor(0, DATA, 0, WRITE);
    rxq.offer(0);
  },
  'an address that is not mapped': ({ rxq }) => {
    rxq.descriptor(0, 2 ** 40, 1024, WRITE);
    rxq.offer(0);
  },
  'an index far ahead': ({ rxq }) => (rxq.availIndex = 999),
};

for (const [name, corrupt] of Object.entries(RXQ)) {
  test(`rxq: ${name}`, async (t) => {
    const { device, guest } = await rig(t, { rxBuffer: 0 });
    const frontend = connectFrontend(t, device);
    frontend.send(plain(GET_FEATURES));
    corrupt(guest);
    guest.kick(0);
    await ended(frontend);
    t.true(guest.needsReset);
    guest.start();
    guest.linkStatus = 1;
    await serves(t, { device, guest });
  });
}

test('rxq: buffers that are too small cost the frontend its connection, not the device', async (t) => {
  const { device, guest } = await rig(t, { rxBuffer: 11 });
  const frontend = connectFrontend(t, device);
  frontend.send(plain(GET_FEATURES));
  await ended(frontend);
  t.false(guest.needsReset);
  t.is(guest.rxq.usedIndex, 0);
});

test('rxq: without any buffer the frontend is not read, and loses nothing', async (t) => {
  const { device, guest } = await rig(t, { rxBuffer: 0 });
  const frontend = connectFrontend(t, device);
  const count = 5000;
  for (let i = 0; i < count; i++) frontend.send(plain(RESET_OWNER));
  await until(() => guest.linkStatus === 3, 'the connection');
  const descriptors = device.descriptors;
  await sleep(100);
  t.is(device.descriptors, descriptors);
  guest.fillRxq(64);
  guest.kick(0);
  let seen = 0;
  await until(() => {
    for (let m = guest.receive(); m; m = guest.receive(), seen++) guest.rxq.offer(guest.rxq.last);
    guest.kick(0);
    return seen === count;
  }, 'all messages');
  t.is(frontend.closed, undefined);
});

test('status bits in odd orders, queues that are enabled twice, vectors that change while live', async (t) => {
  const { device, guest } = await rig(t);
  for (const status of [0x0f, 0x04, 0x08, 0x40, 0x80, 0xff, 0x00, 0x01, 0x00, 0x03, 0x0f, 0x07]) {
    guest.status = status;
    guest.kick(0);
    guest.kick(1);
    guest.linkStatus = 1;
  }
  t.is(guest.linkStatus, 0, 'DRIVER_OK without FEATURES_OK is none');
  guest.negotiate();
  guest.status = 0x0f;
  guest.linkStatus = 1;
  t.is(guest.linkStatus, 1, 'a live driver without queues');
  const waiting = connectFrontend(t, device);
  waiting.send(plain(GET_FEATURES));
  await until(() => guest.linkStatus === 3, 'the connection');
  // It gives the device its queues only now, and twice.
  for (let twice = 0; twice < 2; twice++) {
    guest.enable(0, guest.rxq, 32);
    guest.enable(1, guest.txq, 16);
  }
  t.is(guest.read(0, QUEUE_SIZE, 2), 16);
  guest.write(0, QUEUE_SIZE, 2, 64);
  t.is(guest.read(0, QUEUE_SIZE, 2), 16, 'an enabled queue keeps its size');
  for (const vector of [0, 5, 4000, 0xffff, 1]) {
    for (const register of [CONFIG_VECTOR, QUEUE_VECTOR]) guest.write(0, register, 2, vector);
    t.is(guest.read(0, QUEUE_VECTOR, 2), vector === 4000 ? 0xffff : vector);
  }
  guest.fillRxq(128);
  guest.kick(0);
  t.not(await ask(guest, waiting, plain(GET_FEATURES)), 'dropped');
  guest.write(0, QUEUE_SELECT, 2, 7);
  guest.write(0, QUEUE_ENABLE, 2, 1);
  t.is(guest.read(0, QUEUE_SIZE, 2), 0, 'there is no queue 7');
  t.is(guest.status, 0x0f);
});
