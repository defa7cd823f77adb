import test from 'ava';
import {
  GET_FEATURES,
  ask,
  connectFrontend,
  ended,
  plain,
  startRawRig,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/* A vIOMMU in the appliance: memory comes and goes under rings that are live. */

const OTHER = 0x4000_0000;

test('memory of the rings that goes while they are live asks for a reset, when it is used', async (t) => {
  const { device, guest } = await startRawRig(t);
  const frontend = connectFrontend(t, device);
  t.not(await ask(guest, frontend, plain(GET_FEATURES)), 'dropped');
  await guest.unmapMemory();
  t.false(guest.needsReset, 'nothing has used it yet');
  frontend.send(plain(GET_FEATURES));
  await ended(frontend);
  await until(() => guest.needsReset, 'DEVICE_NEEDS_RESET');
  t.is(guest.linkStatus, 0);

  // The driver may not see its error, and kick; nothing follows.
  guest.kick(0);
  guest.kick(1);
  await guest.mapMemory();
  guest.start();
  t.false(guest.needsReset);
  guest.linkStatus = 1;
  const next = connectFrontend(t, device);
  t.not(await ask(guest, next, plain(GET_FEATURES)), 'dropped');
});

test('a reply in memory that went is a device error as well', async (t) => {
  const { device, guest } = await startRawRig(t);
  const frontend = connectFrontend(t, device);
  await until(() => guest.linkStatus === 3, 'the connection');
  await guest.unmapMemory();
  guest.send(Buffer.alloc(12));
  guest.kick(1);
  await until(() => guest.needsReset, 'DEVICE_NEEDS_RESET');
  await ended(frontend);
  t.is(guest.linkStatus, 0);
});

test('other memory comes and goes, and the rings do not notice', async (t) => {
  const { device, guest } = await startRawRig(t);
  const frontend = connectFrontend(t, device);
  t.not(await ask(guest, frontend, plain(GET_FEATURES)), 'dropped');
  const { descriptors } = device;
  for (let round = 0; round < 200; round++) {
    await guest.mapMemory(OTHER);
    const answer = ask(guest, frontend, plain(GET_FEATURES));
    await guest.unmapMemory(OTHER);
    t.not(await answer, 'dropped');
  }
  t.is(guest.linkStatus, 3);
  t.false(guest.needsReset);
  await until(() => device.descriptors === descriptors, 'the descriptors of before');
});
