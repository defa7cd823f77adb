import test from 'ava';
import { execFileSync } from 'node:child_process';
import { connect as connectNet } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../src/native.js';
import { request, u64 } from '../malformed/vhost-user-inputs.js';
import { RawGuest } from '../support/raw-guest.js';
import {
  GET_FEATURES,
  SET_VRING_CALL,
  VHOST_USER_FRAMING,
  ask,
  connectFrontend,
  ended,
  eventFd,
  negotiate,
  plain,
  serveGuest,
  served,
  startRawRig,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/* Peers that are slow, that do not read, or that come when the process has no fd left. */

test('a frontend that sends one byte at a time', async (t) => {
  const { device, guest } = await startRawRig(t);
  const socket = connectNet(device.vhostUser);
  t.teardown(() => socket.destroy());
  socket.setNoDelay(true);
  let reply = Buffer.alloc(0);
  socket.on('data', (bytes) => (reply = Buffer.concat([reply, bytes])));
  for (const byte of Buffer.concat([plain(GET_FEATURES), plain(GET_FEATURES)])) {
    socket.write(Buffer.from([byte]));
    await sleep(1);
    serveGuest(guest);
  }
  await until(() => {
    serveGuest(guest);
    return reply.length === 40;
  }, 'both replies');
  t.is(reply.readUInt32LE(20), GET_FEATURES);
});

test('a frontend that never reads: the device stops to serve it, and goes on when it reads', async (t) => {
  const { device, guest } = await startRawRig(t);
  const socket = native.connect(device.vhostUser);
  t.teardown(() => socket.close());
  let replies = 0;
  const framing = { ...VHOST_USER_FRAMING, maxMessage: 4096, maxFds: 8 };
  socket.start(framing, { message: () => void replies++, closed: () => undefined });
  socket.pause();
  let sent = 0;
  let idle = 0;
  // Both sides of the socket and the device's own queue fill up; nothing grows after that.
  await until(() => {
    while (sent < 200_000 && socket.queued < 65536)
      for (let i = 0; i < 100; i++, sent++) {
        socket.send(plain(GET_FEATURES));
      }
    idle = serveGuest(guest).length === 0 ? idle + 1 : 0;
    return idle > 20;
  }, 'a standstill');
  t.true(sent < 200_000, 'the device still takes requests');
  t.is(guest.linkStatus, 3);
  socket.resume();
  await until(() => {
    serveGuest(guest);
    return replies === sent;
  }, 'all replies');
});

test('a frontend that asks for acknowledgements of nonsense and never reads them', async (t) => {
  const { device, guest } = await startRawRig(t);
  const frontend = connectFrontend(t, device);
  await negotiate(guest, frontend);
  const count = 20_000;
  for (let i = 0; i < count; i++) frontend.send(request(99));
  await until(() => frontend.received.length === count, 'the refusals');
  t.not(await ask(guest, frontend, plain(GET_FEATURES)), 'dropped');
});

test('a process without free fds refuses who comes, and serves the next', async (t) => {
  const { device, guest } = await startRawRig(t);
  const frontend = connectFrontend(t, device);
  await negotiate(guest, frontend);
  const limit = (files: string): void => {
    execFileSync('prlimit', ['--pid', String(device.pid), `--nofile=${files}`]);
  };
  const idle = device.descriptors;
  limit(`${idle}:4096`);
  const call = eventFd(t);
  // The kernel drops the fd on its way in: the message cannot be trusted any more.
  frontend.send(plain(SET_VRING_CALL, u64(0)), [call]);
  await ended(frontend);
  t.is(guest.linkStatus, 0);
  guest.linkStatus = 1;
  limit(`${device.descriptors}:4096`);
  const waiting = connectFrontend(t, device);
  waiting.send(plain(GET_FEATURES));
  const second = RawGuest.attach(device.vfioUser, { requestTimeoutMs: 2000 });
  second.catch(() => undefined);
  await sleep(200);
  t.is(guest.linkStatus, 1, 'connections wait in the backlog');
  limit('1024:4096');
  t.not(await ask(guest, waiting, plain(GET_FEATURES)), 'dropped');
  await t.throwsAsync(second, undefined, 'one client is attached');
  waiting.send(plain(SET_VRING_CALL, u64(0)), [call]);
  await served(guest, SET_VRING_CALL);
});
