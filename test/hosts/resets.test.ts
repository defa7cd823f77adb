import test from 'ava';
import { native } from '../../src/native.js';
import { region, table, u64 } from '../malformed/vhost-user-inputs.js';
import {
  CONFIG_REGION,
  DEVICE_CONFIG,
  ISR,
  QUEUE_ENABLE,
  type RawGuest,
} from '../support/raw-guest.js';
import {
  GET_FEATURES,
  SET_VRING_CALL,
  SET_VRING_KICK,
  ask,
  attach,
  connectFrontend,
  connectNegotiated,
  ended,
  eventFd,
  filledMemory,
  plain,
  serveGuest,
  served,
  signalled,
  startRawRig,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/* Whatever resets the device while a frontend is connected leaves nothing of that frontend. */
const WINDOW = 4;
const DOORBELLS = 2;
const NOTIFICATION_VECTOR = 4096 + 2;
const PCIE_CAPABILITY = 0x10;
const FLR = 0x8000;

function flr(guest: RawGuest): void {
  let at = guest.read(CONFIG_REGION, 0x34, 1);
  while (guest.read(CONFIG_REGION, at, 1) !== PCIE_CAPABILITY) {
    at = guest.read(CONFIG_REGION, at + 1, 1);
  }
  guest.write(CONFIG_REGION, at + 8, 2, FLR);
}

const RESETS: Record<string, (guest: RawGuest) => void> = {
  'status 0': (guest) => (guest.status = 0),
  'function-level reset': flr,
  DEVICE_RESET: (guest) => guest.client.resetSync(),
};

for (const [name, reset] of Object.entries(RESETS)) {
  test(`${name} with a frontend connected`, async (t) => {
    const rig = await startRawRig(t);
    const { device, guest } = rig;
    const idle = device.descriptors;
    const frontend = await connectNegotiated(t, rig);
    const [call, kick] = [eventFd(t), eventFd(t)];
    t.is(await ask(guest, frontend, table(region(0, 8192)), [filledMemory(t, 8192, 0x5a)]), 0n);
    t.is(guest.read(WINDOW, 0, 4), 0x5a5a5a5a);
    frontend.send(plain(SET_VRING_CALL, u64(0)), [call]);
    frontend.send(plain(SET_VRING_KICK, u64(0)), [kick]);
    await served(guest, SET_VRING_KICK);
    guest.write(DOORBELLS, NOTIFICATION_VECTOR, 2, 5);
    guest.write(DOORBELLS, 0, 2, 0);
    await signalled(call);

    reset(guest);
    // All of it before the reset's own reply: the very next access sees nothing of the frontend.
    t.is(guest.status, 0);
    t.is(guest.linkStatus, 0);
    t.is(guest.read(0, ISR, 1), 0);
    t.is(guest.read(0, QUEUE_ENABLE, 2), 0);
    t.is(guest.read(DOORBELLS, NOTIFICATION_VECTOR, 2), 0xffff);
    guest.write(DOORBELLS, 0, 2, 0);
    t.is(native.readEventFd(call), 0, 'the doorbell is disconnected');
    await until(() => guest.read(WINDOW, 0, 4) === 0, 'an empty window');
    await ended(frontend);
    native.signalEventFd(kick);
    await until(() => device.descriptors === idle, `${idle} open fds`);
    t.is(guest.read(0, ISR, 1), 0, 'the kick is disconnected');

    guest.start();
    guest.linkStatus = 1;
    const next = await connectNegotiated(t, rig);
    t.is(await ask(guest, next, table(region(0, 8192)), [filledMemory(t, 8192, 0x33)]), 0n);
    t.is(guest.read(WINDOW, 4096, 4), 0x33333333);
  });
}

test('a client that leaves takes the driver with it; the next one finds a fresh function', async (t) => {
  const rig = await startRawRig(t);
  const { device, guest } = rig;
  const frontend = await connectNegotiated(t, rig);
  await ask(guest, frontend, table(region(0, 8192)), [filledMemory(t, 8192, 0x5a)]);
  guest.write(CONFIG_REGION, 4, 2, 6);
  guest.write(CONFIG_REGION, 0x10, 4, 0xfebf0000);
  guest.close();
  await ended(frontend);
  const next = await attach(t, device);
  t.is(next.read(CONFIG_REGION, 4, 2), 0);
  t.is(next.read(CONFIG_REGION, 0x10, 4), 0);
  t.is(next.status, 0);
  t.is(next.read(0, DEVICE_CONFIG, 4), 0);
  t.is(next.read(WINDOW, 0, 4), 0);
  next.start();
  next.linkStatus = 1;
  await connectNegotiated(t, { device, guest: next });
});

test('a queue that is reset while a frontend waits for it loses no message', async (t) => {
  // VERSION_1 and RING_RESET; no buffer on rxq.
  const setup = { featuresHigh: 1 | (1 << 8), rxBuffer: 0 };
  const { guest, device } = await startRawRig(t, { setup });
  const frontend = connectFrontend(t, device);
  frontend.send(plain(GET_FEATURES));
  frontend.send(plain(GET_FEATURES));
  await until(() => (guest.linkStatus & 2) !== 0, 'the connection');
  guest.resetQueue(0);
  t.is(guest.read(0, QUEUE_ENABLE, 2), 0);
  guest.enable(0, guest.rxq, 16);
  guest.fillRxq(256);
  guest.kick(0);
  await until(() => {
    serveGuest(guest);
    return frontend.received.length === 2;
  }, 'both replies');
  frontend.received.length = 0;

  guest.resetQueue(1);
  guest.send(Buffer.from('not on any queue'));
  guest.enable(1, guest.txq, 8);
  t.not(await ask(guest, frontend, plain(GET_FEATURES)), 'dropped');
  t.is(guest.status, 0x0f);
});
