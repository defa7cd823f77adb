import test, { type ExecutionContext } from 'ava';
import { rmSync } from 'node:fs';
import { native } from '../../src/native.js';
import { region, table, u64 } from '../malformed/vhost-user-inputs.js';
import {
  COMMON,
  CONFIG_REGION,
  DEVICE_CONFIG,
  ISR,
  QUEUE_SELECT,
  QUEUE_SIZE,
  QUEUE_VECTOR,
  type RawGuest,
} from '../support/raw-guest.js';
import {
  SET_VRING_CALL,
  SET_VRING_KICK,
  ask,
  connectNegotiated,
  eventFd,
  filledMemory,
  plain,
  served,
  signalled,
  startRawRig,
  type RawRig,
} from '../support/raw-rig.js';

/*
 * A driver that knows draft 5 of "Vhost-user Device Backend" (virtio-v1.1-cs01 with 5.14), and
 * nothing of the capabilities of 2019.
 */
const SET_VRING_ERR = 14;
const SET_LOG_FD = 7;
const NUM_QUEUES = 0x12;
const QUEUE_NOTIFY_OFF = 0x1e;
const CAP_NOTIFY = 2;
const CAP_SHARED_MEMORY = 8;
const MSIX = 2;
const NO_VECTOR = 0xffff;
const QUEUES = 4;

interface Capability {
  readonly at: number;
  readonly length: number;
}

/** 4.1.4: the first vendor-specific capability of this type. */
function capability(guest: RawGuest, type: number): Capability {
  const byte = (at: number): number => guest.read(CONFIG_REGION, at, 1);
  for (let at = byte(0x34); at !== 0; at = byte(at + 1)) {
    if (byte(at) === 0x09 && byte(at + 3) === type) return { at, length: byte(at + 2) };
  }
  throw new Error(`no capability of type ${type}`);
}

const field = (guest: RawGuest, at: number): number => guest.read(CONFIG_REGION, at, 4);

/** 2.3 and 4.1.4.4: an available-buffer notification of a queue index. */
function notify(guest: RawGuest, index: number): void {
  const { at } = capability(guest, CAP_NOTIFY);
  const multiplier = field(guest, at + 16);
  guest.write(0, QUEUE_SELECT, 2, index);
  const offset = guest.read(0, QUEUE_NOTIFY_OFF, 2) * multiplier;
  if (offset + 2 > field(guest, at + 12)) throw new Error(`queue ${index} is outside`);
  guest.write(guest.read(CONFIG_REGION, at + 4, 1), field(guest, at + 8) + offset, 2, index);
}

/** 5.14.7.6 */
function assign(guest: RawGuest, index: number, vector: number): number {
  guest.write(0, QUEUE_SELECT, 2, index);
  guest.write(0, QUEUE_VECTOR, 2, vector);
  return guest.read(0, QUEUE_VECTOR, 2);
}

const start = (t: ExecutionContext): Promise<RawRig> =>
  startRawRig(t, { layout: 'draft', args: ['--queues', String(QUEUES)] });

test("the draft's device id, its two queues, and a shared memory region of 64 bits", async (t) => {
  const { guest } = await start(t);
  t.is(field(guest, 0), 0x1060_1af4);
  t.is(guest.read(0, COMMON + NUM_QUEUES, 2), 2, 'reserved indices are no queues');
  t.is(guest.read(0, DEVICE_CONFIG + 4, 4), QUEUES);
  const { at, length } = capability(guest, CAP_SHARED_MEMORY);
  t.is(length, 24, 'virtio_pci_cap64');
  const [bar, id] = [guest.read(CONFIG_REGION, at + 4, 1), guest.read(CONFIG_REGION, at + 5, 1)];
  t.deepEqual([bar, id], [4, 0]);
  const [offset, low, offsetHigh, high] = [8, 12, 16, 20].map((each) => field(guest, at + each));
  t.deepEqual([offset, offsetHigh], [0, 0]);
  t.deepEqual([low, high], [1 << 20, 0]);
  guest.write(0, QUEUE_SELECT, 2, 2);
  t.is(guest.read(0, QUEUE_SIZE, 2), 0);
});

test('the length of a large window has all its bits', async (t) => {
  const path = `/dev/shm/vvu-draft-${process.pid}`;
  const { guest } = await startRawRig(t, { layout: 'draft', window: `path=${path},size=8G` });
  t.teardown(() => rmSync(path, { force: true }));
  const { at } = capability(guest, CAP_SHARED_MEMORY);
  t.deepEqual([field(guest, at + 12), field(guest, at + 20)], [0, 2]);
});

test('doorbells are the notifications of queue indices: call, err and log', async (t) => {
  const rig = await start(t);
  const { guest } = rig;
  const frontend = await connectNegotiated(t, rig);
  const log = eventFd(t);
  const rings = Array.from({ length: QUEUES }, () => ({ call: eventFd(t), err: eventFd(t) }));
  for (const [index, { call, err }] of rings.entries()) {
    frontend.send(plain(SET_VRING_CALL, u64(index)), [call]);
    frontend.send(plain(SET_VRING_ERR, u64(index)), [err]);
  }
  frontend.send(plain(SET_LOG_FD), [log]);
  await served(guest, SET_LOG_FD);
  const all = [...rings.flatMap(({ call, err }) => [call, err]), log];
  const expected = [...rings.flatMap((_, i) => [2 * i + 2, 2 * i + 3]), 2 * (QUEUES + 1)];
  for (const [position, index] of expected.entries()) {
    notify(guest, index);
    await signalled(all[position]!);
    t.true(
      all.every((fd) => native.readEventFd(fd) === 0),
      `${index} is one eventfd's`,
    );
  }
  // What stands for nothing has the register of rxq, which is harmless.
  notify(guest, 2 * (QUEUES + 1) + 1);
  t.true(all.every((fd) => native.readEventFd(fd) === 0));
  t.false(guest.needsReset);
});

test('kick vectors are those of queue indices; without MSI-X a kick is ISR bit 2', async (t) => {
  const rig = await start(t);
  const { guest } = rig;
  const frontend = await connectNegotiated(t, rig);
  const [kick, vector] = [eventFd(t), eventFd(t)];
  frontend.send(plain(SET_VRING_KICK, u64(1)), [kick]);
  await served(guest, SET_VRING_KICK);
  guest.read(0, ISR, 1);
  native.signalEventFd(kick);
  for (let isr = 0; (isr & 4) === 0;) isr = guest.read(0, ISR, 1);
  t.pass('bit 2');

  await guest.client.setIrqEventFds(MSIX, 5, [vector]);
  t.is(assign(guest, 2 * 1 + 2, 5), 5);
  native.signalEventFd(kick);
  await signalled(vector);
  t.is(assign(guest, 2 * 1 + 2, 3 + QUEUES), NO_VECTOR, 'there is no such vector');
  t.is(assign(guest, 2 * 1 + 3, 5), NO_VECTOR, 'an err doorbell has none');
  t.is(assign(guest, 2 * (QUEUES + 1), 5), NO_VECTOR, 'nor has the log');
  t.is(assign(guest, 0x7fff, 5), NO_VECTOR);
  t.is(assign(guest, 2, 6), 6);
  guest.status = 0;
  guest.write(0, QUEUE_SELECT, 2, 2);
  t.is(guest.read(0, QUEUE_VECTOR, 2), NO_VECTOR, 'forgotten by a reset');
});

test('regions are laid out one after the other in the shared memory region', async (t) => {
  const rig = await start(t);
  const { guest } = rig;
  const frontend = await connectNegotiated(t, rig);
  const regions = [region(0x10_0000, 4096), region(0, 8192)];
  const fds = [filledMemory(t, 4096, 0x11), filledMemory(t, 8192, 0x22)];
  t.is(await ask(guest, frontend, table(...regions), fds), 0n);
  t.is(guest.read(4, 4092, 4), 0x11111111);
  t.is(guest.read(4, 4096, 4), 0x22222222);
  t.is(guest.read(4, 4096 + 8192, 4), 0);
});
