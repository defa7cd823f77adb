import test from 'ava';
import { execFileSync } from 'node:child_process';
import { connect as connectNet } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { region, request, table, u32, u64 } from '../malformed/vhost-user-inputs.js';
import { RawGuest } from '../support/raw-guest.js';
import {
  GET_CONFIG,
  GET_FEATURES,
  SET_VRING_CALL,
  ask,
  connectFrontend,
  ended,
  eventFd,
  filledMemory,
  negotiate,
  plain,
  serveGuest,
  served,
  startRawRig,
} from '../support/raw-rig.js';
import { until } from '../support/until.js';

/** Soft limit, below which all numbers are taken, and the hard one. */
const NONE = '10:4096';
const MANY = '1024:4096';

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
  const frontend = connectFrontend(t, device);
  await negotiate(guest, frontend);
  frontend.pause();
  // 256 bytes of configuration, which come back.
  const question = plain(GET_CONFIG, Buffer.concat([u32(0, 256, 0), Buffer.alloc(256, 0xcc)]));
  const count = 30_000;
  for (let i = 0; i < count; i++) frontend.send(question);
  let served = 0;
  let idle = 0;
  await until(() => {
    const before = served;
    for (let n = serveGuest(guest).length; n > 0; n = serveGuest(guest).length) served += n;
    idle = served === before ? idle + 1 : 0;
    return idle === 20;
  }, 'a standstill');
  t.true(served < count / 2, `${served} questions reached the guest`);
  t.is(guest.linkStatus, 3);
  frontend.resume();
  await until(() => {
    while (serveGuest(guest).length > 0);
    return frontend.received.length > served + 1000;
  }, 'more replies');
  t.is(guest.status, 0x0f);
});

test('a frontend that asks for acknowledgements of nonsense and never reads them', async (t) => {
  const { device, guest } = await startRawRig(t);
  const frontend = connectFrontend(t, device);
  await negotiate(guest, frontend);
  const count = 5000;
  for (let i = 0; i < count; i++) frontend.send(request(0));
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
  limit(NONE);
  const call = eventFd(t);
  // The kernel drops the fd on its way in: the message cannot be trusted any more.
  frontend.send(plain(SET_VRING_CALL, u64(0)), [call]);
  await ended(frontend);
  t.is(guest.linkStatus, 0);
  guest.linkStatus = 1;
  limit(NONE);
  const waiting = connectFrontend(t, device);
  waiting.send(plain(GET_FEATURES));
  const second = RawGuest.attach(device.vfioUser, { requestTimeoutMs: 2000 });
  second.catch(() => undefined);
  await sleep(200);
  t.is(guest.linkStatus, 1, 'connections wait in the backlog');
  limit(MANY);
  t.not(await ask(guest, waiting, plain(GET_FEATURES)), 'dropped');
  await t.throwsAsync(second, undefined, 'one client is attached');
  waiting.send(plain(SET_VRING_CALL, u64(0)), [call]);
  await served(guest, SET_VRING_CALL);
});

test('SIGTERM while the client owes a reply and frontends are in the middle of a message', async (t) => {
  let asked = false;
  const regionRemap = (): Promise<void> => {
    asked = true;
    return new Promise(() => undefined);
  };
  const { device, guest } = await startRawRig(t, { client: { regionRemap } });
  const frontend = connectFrontend(t, device);
  await negotiate(guest, frontend);
  frontend.send(table(region(0, 4096)), [filledMemory(t, 4096, 1)]);
  await until(() => asked, 'the remap');
  frontend.send(plain(GET_FEATURES).subarray(0, 7));
  const second = connectFrontend(t, device);
  second.send(plain(GET_FEATURES).subarray(0, 7));
  t.is(await device.stop(), 'status 0');
  t.false(device.hasSockets);
  await ended(frontend);
  await ended(second);
});
