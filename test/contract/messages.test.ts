import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { u32, u64 } from '../malformed/vhost-user-inputs.js';
import { GET_FEATURES, ask, connectFrontend, ended, plain } from '../support/raw-rig.js';
import type { RawDriver } from '../support/raw-driver.js';
import { until } from '../support/until.js';
import { HOSTS } from './hosts.js';
import { bringUp } from './rig.js';

/* Messages in rxq and txq byte for byte, and what becomes of rings that are broken. */
const SET_OWNER = 3;
const RESET_OWNER = 4;
const REPLY = Buffer.concat([u32(GET_FEATURES, 5, 8), u64((1n << 32n) | (1n << 30n))]);
const DATA = 0x90_000;

const BROKEN: Record<string, (guest: RawDriver) => void> = {
  'an index far ahead': ({ txq }) => (txq.availIndex = 5000),
  'a head that is no descriptor': ({ txq }) => txq.offer(64),
  'an address that is not memory': ({ txq }) => {
    txq.descriptor(0, 0x10, 20, 0);
    txq.offer(0);
  },
  'a chain that is a loop': ({ txq, base }) => {
    txq.descriptor(0, base + DATA, 1, 1, 1);
    txq.descriptor(1, base + DATA, 1, 1, 0);
    txq.offer(0);
  },
  'a buffer that is no message': (guest) => guest.send(Buffer.alloc(20, 0xee)),
};

for (const host of HOSTS) {
  test.serial(`${host.name}: requests and replies, byte for byte and in order`, async (t) => {
    const { guest, device } = await bringUp(t, host);
    const frontend = connectFrontend(t, device);
    const sent = [plain(SET_OWNER), plain(GET_FEATURES)];
    for (const bytes of sent) frontend.send(bytes);
    await until(() => guest.rxq.usedIndex === 2, 'two messages');
    t.deepEqual([guest.receive(), guest.receive()], sent);
    t.is(guest.read(0, 0x1000, 1) & 1, 1, 'a used buffer');
    guest.send(REPLY);
    const reply = await frontend.next();
    // The device takes away the features that it cannot tunnel, and adds none.
    t.deepEqual(reply, REPLY);
    await until(() => guest.txq.usedIndex === 1, 'the buffer');
    t.deepEqual(guest.txq.take(), { id: 0, length: 0 });
  });

  test.serial(`${host.name}: without rxq buffers messages wait, and none is lost`, async (t) => {
    const { guest, device } = await bringUp(t, host, { rxBuffer: 0 });
    const frontend = connectFrontend(t, device);
    for (let i = 0; i < 200; i++) frontend.send(plain(RESET_OWNER));
    await until(() => guest.linkStatus === 3, 'the frontend');
    t.is(guest.rxq.usedIndex, 0);
    guest.fillRxq(64);
    guest.kick(0);
    let seen = 0;
    await until(() => {
      for (let m = guest.receive(); m; m = guest.receive(), seen++) guest.rxq.offer(guest.rxq.last);
      guest.kick(0);
      return seen === 200;
    }, 'all of them');
  });

  for (const [name, corrupt] of Object.entries(BROKEN)) {
    test.serial(`${host.name}: txq with ${name}: NEEDS_RESET, and a reset helps`, async (t) => {
      const { guest, device } = await bringUp(t, host);
      const frontend = connectFrontend(t, device);
      await until(() => guest.linkStatus === 3, 'the frontend');
      corrupt(guest);
      guest.kick(1);
      t.true(guest.needsReset);
      t.is(guest.linkStatus, 0);
      await ended(frontend);
      guest.start();
      guest.linkStatus = 1;
      const next = connectFrontend(t, device);
      t.not(await ask(guest, next, plain(GET_FEATURES)), 'dropped');
    });
  }

  test.serial(
    `${host.name}: what is no vhost-user message costs the frontend its connection`,
    async (t) => {
      const { guest, device } = await bringUp(t, host);
      const frontend = connectFrontend(t, device);
      frontend.send(Buffer.alloc(64, 0xff));
      await ended(frontend);
      t.is(guest.linkStatus, 0);
      t.false(guest.needsReset);
    },
  );

  test.serial(
    `${host.name}: a reconnection is a new generation, and stale replies stay away`,
    async (t) => {
      const { guest, device } = await bringUp(t, host);
      for (let generation = 0; generation < 3; generation++) {
        const frontend = connectFrontend(t, device);
        t.not(await ask(guest, frontend, plain(GET_FEATURES)), 'dropped');
        frontend.send(plain(GET_FEATURES));
        await until(() => guest.receive() !== undefined, 'a request that is not answered');
        guest.rxq.offer(guest.rxq.last);
        frontend.close();
        await until(() => guest.linkStatus === 0, 'the end');
        guest.send(REPLY);
        guest.linkStatus = 1;
        const next = connectFrontend(t, device);
        await until(() => guest.linkStatus === 3, 'the next');
        guest.send(REPLY);
        await sleep(20);
        t.deepEqual(next.received, []);
        t.false(guest.needsReset);
        next.close();
        await until(() => guest.linkStatus === 0, 'the end of that one');
        guest.linkStatus = 1;
      }
    },
  );
}
