import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../src/native.js';
import { u64 } from '../malformed/vhost-user-inputs.js';
import {
  SET_VRING_CALL,
  SET_VRING_KICK,
  connectFrontend,
  eventFd,
  plain,
  served,
  signalled,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';
import { HOSTS } from './hosts.js';
import { assignKick, bringUp, ring } from './rig.js';

/* Doorbells to the frontend's eventfds, its kicks to vectors, and vectors of the device itself. */
const SET_LOG_FD = 7;
const SET_VRING_ERR = 14;
const VRINGS = 256;

for (const host of HOSTS) {
  test.serial(`${host.name}: doorbells signal call, err and log, each its own`, async (t) => {
    const rig = await bringUp(t, host);
    const { guest, device } = rig;
    const frontend = connectFrontend(t, device);
    const [call, last, err, log] = [eventFd(t), eventFd(t), eventFd(t), eventFd(t)];
    for (const [id, vring, fd] of [
      [SET_VRING_CALL, 0, call],
      [SET_VRING_CALL, VRINGS - 1, last],
      [SET_VRING_ERR, 0, err],
    ] as const) {
      frontend.send(plain(id, u64(vring)), [fd]);
      await served(guest, id);
    }
    frontend.send(plain(SET_LOG_FD), [log]);
    await served(guest, SET_LOG_FD);
    const all = [call, last, log, err];
    for (const [index, doorbell] of [0, VRINGS - 1, VRINGS, VRINGS + 1].entries()) {
      ring(rig, doorbell);
      await signalled(all[index]!);
      t.true(
        all.every((fd) => native.readEventFd(fd) === 0),
        `doorbell ${doorbell} rings one`,
      );
    }
    ring(rig, 1);
    // The frontend takes one back, and then leaves.
    frontend.send(plain(SET_VRING_CALL, u64(0x100)));
    await served(guest, SET_VRING_CALL);
    ring(rig, 0);
    frontend.close();
    await until(() => guest.linkStatus === 0, 'the end');
    ring(rig, VRINGS - 1);
    await sleep(20);
    t.deepEqual(
      all.map((fd) => native.readEventFd(fd)),
      [0, 0, 0, 0],
    );
  });

  test.serial(`${host.name}: a kick fires its vector, whichever of them comes first`, async (t) => {
    const rig = await bringUp(t, host);
    const { access, guest, device } = rig;
    const frontend = connectFrontend(t, device);
    const [early, late] = [eventFd(t), eventFd(t)];
    const assign = (vring: number, vector: number) => assignKick(rig, vring, vector);
    const first = access.enableVector(5);
    t.true(assign(0, 5));
    frontend.send(plain(SET_VRING_KICK, u64(0)), [early]);
    await served(guest, SET_VRING_KICK);
    native.signalEventFd(early);
    await signalled(first.eventfd);
    frontend.send(plain(SET_VRING_KICK, u64(1)), [late]);
    await served(guest, SET_VRING_KICK);
    native.signalEventFd(late);
    await sleep(20);
    t.is(native.readEventFd(first.eventfd), 0);
    const second = access.enableVector(6);
    t.true(assign(1, 6));
    await signalled(second.eventfd);
    t.false(assign(1, 4000), 'there is no such vector');
    t.true(assign(1, 5));
    native.signalEventFd(late);
    await signalled(first.eventfd);
    // The assignment is the driver's, and stays when the frontend goes.
    frontend.close();
    await until(() => guest.linkStatus === 0, 'the end');
    guest.linkStatus = 1;
    const next = connectFrontend(t, device);
    next.send(plain(SET_VRING_KICK, u64(1)), [late]);
    await served(guest, SET_VRING_KICK);
    native.signalEventFd(late);
    await signalled(first.eventfd);
  });

  test.serial(
    `${host.name}: configuration changes and queues have vectors of their own`,
    async (t) => {
      const { access, guest, device } = await bringUp(t, host);
      const [config, rxq] = [access.enableVector(1), access.enableVector(2)];
      guest.write(0, 0x10, 2, 1);
      guest.write(0, 0x16, 2, 0);
      guest.write(0, 0x1a, 2, 2);
      const frontend = connectFrontend(t, device);
      await signalled(config.eventfd);
      frontend.send(plain(3));
      await signalled(rxq.eventfd);
      t.is(native.readEventFd(config.eventfd), 0);
    },
  );
}
