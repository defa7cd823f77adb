import test from 'ava';
import { rmSync } from 'node:fs';
import { LAYOUTS } from '../../src/hosts/layout.js';
import { native } from '../../src/native.js';
import { region, table, u64 } from '../malformed/vhost-user-inputs.js';
import { DEVICE_CONFIG, STATUS } from '../support/raw-guest.js';
import {
  SET_VRING_CALL,
  ask,
  connectFrontend,
  connectNegotiated,
  ended,
  eventFd,
  filledMemory,
  plain,
  served,
  signalled,
  startDevice,
  startRawRig,
  attach,
} from '../support/raw-rig.js';

/* Accesses as VMMs pack them: many in one message, large, across the borders of what is there. */
const DOORBELLS = 2;
const WINDOW = 4;
const SHORT = Buffer.from([0, 0]);

test('doorbells, configuration and window in one WRITE_MULTI, in order', async (t) => {
  const rig = await startRawRig(t);
  const { guest, device } = rig;
  const frontend = await connectNegotiated(t, rig);
  const calls = [eventFd(t), eventFd(t), eventFd(t)];
  await ask(guest, frontend, table(region(0, 4096)), [filledMemory(t, 4096, 0x11)]);
  for (const [index, fd] of calls.entries()) {
    frontend.send(plain(SET_VRING_CALL, u64(index)), [fd]);
    await served(guest, SET_VRING_CALL);
  }
  const burst = Array.from({ length: 90 }, (_, i) => ({
    region: DOORBELLS,
    offset: 4 * (i % 3),
    data: SHORT,
  }));
  const word = Buffer.from('aabbccdd', 'hex');
  await guest.client.regionWriteMulti([
    ...burst,
    { region: WINDOW, offset: 4094, data: word },
    { region: DOORBELLS, offset: 4 * 300, data: SHORT },
    { region: 0, offset: 0x1000, data: word },
  ]);
  t.deepEqual(
    calls.map((fd) => native.readEventFd(fd)),
    [30, 30, 30],
  );
  t.is(guest.read(WINDOW, 4092, 6), 0x0000bbaa1111, 'the end of what is shown cuts the write');
  // Taking the link down in the middle makes the doorbells behind it silent.
  await guest.client.regionWriteMulti([
    { region: DOORBELLS, offset: 0, data: SHORT },
    { region: 0, offset: DEVICE_CONFIG, data: Buffer.alloc(4) },
    { region: DOORBELLS, offset: 4, data: SHORT },
  ]);
  t.deepEqual(
    calls.map((fd) => native.readEventFd(fd)),
    [1, 0, 0],
  );
  await ended(frontend);
  // A reset among posted writes: what comes after it starts anew.
  guest.client.regionWriteMultiPosted([
    { region: 0, offset: STATUS, data: Buffer.from([0]) },
    { region: 0, offset: STATUS, data: Buffer.from([1]) },
    { region: 9, offset: 0, data: SHORT },
    { region: 0, offset: STATUS, data: Buffer.from([3]) },
  ]);
  t.is(guest.status, 1, 'up to the first that fails');
  connectFrontend(t, device);
});

test('window accesses across regions, holes and the end', async (t) => {
  const rig = await startRawRig(t);
  const { guest } = rig;
  const frontend = await connectNegotiated(t, rig);
  // Packed one after the other: [0, 4096) and [4096, 12288), odd sizes included, then nothing.
  const regions = [region(0x10_0000, 4096), region(0x20_0000, 8000)];
  const fds = [filledMemory(t, 4096, 0x11), filledMemory(t, 8192, 0x22)];
  t.is(await ask(guest, frontend, table(...regions), fds), 0n);
  const read = async (offset: number, count: number): Promise<string> =>
    Buffer.from(await guest.client.regionRead(WINDOW, offset, count)).toString('hex');
  t.is(await read(4094, 4), '11112222');
  t.is(await read(12094, 4), '22220000', 'a region that is no multiple of the page');
  const all = Buffer.from(await guest.client.regionRead(WINDOW, 0, 65536));
  const expected = Buffer.alloc(65536);
  expected.fill(0x11, 0, 4096).fill(0x22, 4096, 12096);
  t.deepEqual(all, expected);
  await guest.client.regionWrite(WINDOW, 4000, Buffer.alloc(10_000, 0x77));
  expected.fill(0x77, 4000, 12096);
  t.deepEqual(Buffer.from(await guest.client.regionRead(WINDOW, 0, 65536)), expected);
  t.is(await read(2 ** 20 - 8, 8), '00'.repeat(8));
  await guest.client.regionWrite(WINDOW, 2 ** 20 - 1, Buffer.from([1]));
  await t.throwsAsync(guest.client.regionRead(WINDOW, 2 ** 20 - 4, 8), { code: 'EINVAL' });
  await t.throwsAsync(guest.client.regionRead(WINDOW, 2 ** 20, 1), { code: 'EINVAL' });
  await t.throwsAsync(guest.client.regionWrite(WINDOW, 2 ** 40, SHORT), { code: 'EINVAL' });
});

/** Where each layout has its doorbells and its window of 4 KiB. */
const PLACES = {
  split: { doorbells: [2, 0], stride: 4, window: [4, 0] },
  rfc: { doorbells: [2, 0], stride: 2, window: [2, 4096] },
  draft: { doorbells: [0, 0x3008], stride: 4, window: [4, 0] },
} as const;

for (const layout of LAYOUTS) {
  const { doorbells, stride, window } = PLACES[layout];
  for (const queues of [1, 1024]) {
    test(`${queues} vrings and the smallest window, ${layout}`, async (t) => {
      const args = ['--queues', String(queues)];
      const rig = await startRawRig(t, { layout, window: 'size=4K', args });
      const { guest } = rig;
      t.is(guest.read(0, DEVICE_CONFIG + 4, 4), queues);
      const frontend = await connectNegotiated(t, rig);
      const last = eventFd(t);
      // vhost-user has 8 bits for the index.
      const vring = Math.min(queues, 256) - 1;
      frontend.send(plain(SET_VRING_CALL, u64(vring)), [last]);
      await served(guest, SET_VRING_CALL);
      guest.write(doorbells[0], doorbells[1] + stride * vring, 2, vring);
      await signalled(last);
      t.is(await ask(guest, frontend, table(region(0, 4096)), [filledMemory(t, 4096, 0x44)]), 0n);
      const [bar, at] = window;
      t.is(guest.read(bar, at + 4092, 4), 0x44444444);
      const two = [filledMemory(t, 4096, 1), filledMemory(t, 4096, 2)];
      const full = await ask(guest, frontend, table(region(0, 4096), region(8192, 4096)), two);
      t.not(full, 0n);
      t.not(full, 'dropped');
      t.is(guest.read(bar, at, 4), 0x44444444, 'the old table stays');
      if (queues === 1) {
        frontend.send(plain(SET_VRING_CALL, u64(1)), [last]);
        await ended(frontend);
      }
    });
  }
}

test('a window of 64 GiB over a sparse file', async (t) => {
  const path = `/dev/shm/vvu-sparse-${process.pid}`;
  const device = await startDevice(t, { window: `path=${path},size=64G` });
  t.teardown(() => rmSync(path, { force: true }));
  const guest = await attach(t, device);
  const at = 64 * 2 ** 30 - 4;
  guest.write(WINDOW, at, 4, 0x1234);
  t.is(guest.read(WINDOW, at, 4), 0x1234);
  t.is(guest.read(WINDOW, 2 ** 35, 4), 0);
});
