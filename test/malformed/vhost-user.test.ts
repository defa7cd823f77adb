import test from 'ava';
import { ftruncateSync, unlinkSync } from 'node:fs';
import { native } from '../../src/native.js';
import { startEchoBackend } from '../support/echo-backend.js';
import { DeviceProcess } from '../vm/device-process.js';
import { IdleFds } from '../support/idle-fds.js';
import { RawPeer, TestFds } from './raw-peer.js';
import {
  VHOST_USER_INPUTS,
  region,
  request,
  table,
  u64,
  type VhostUserInput,
} from './vhost-user-inputs.js';

const args = ['--queues', '64'];
const device = await DeviceProcess.start({ layout: 'split', window: 'size=64M', args });
const backend = await startEchoBackend(device.vfioUser, { regionRemap: false });
test.after.always(async () => {
  await backend.stop();
  await device.close();
});

const FRAMING = { headerSize: 12, lengthOffset: 8, lengthIncludesHeader: false };
const FLAGS = { flags: 1 };
const LOG_SHMFD = 1 << 1;
/** MQ, REPLY_ACK, BACKEND_REQ, CONFIGURE_MEM_SLOTS. */
const PROTOCOL_FEATURES = 1 | (1 << 3) | (1 << 5) | (1 << 15);
/** VERSION_1 and PROTOCOL_FEATURES. */
const FEATURES = (1n << 32n) | (1n << 30n);
const GET_FEATURES = request(1, undefined, FLAGS);

async function ask(peer: RawPeer, bytes: Buffer): Promise<Buffer> {
  peer.send(bytes);
  const reply = await peer.next();
  if (!reply) throw new Error(`dropped (${String(peer.closed)})`);
  return reply;
}

/** A frontend that has negotiated acknowledgements. */
async function connect(): Promise<RawPeer> {
  const peer = new RawPeer(device.vhostUser, FRAMING);
  await ask(peer, GET_FEATURES);
  await ask(peer, request(15, undefined, FLAGS));
  peer.send(request(16, u64(PROTOCOL_FEATURES), FLAGS));
  peer.send(request(2, u64(FEATURES), FLAGS));
  return peer;
}

/** The next frontend gets its answers, and its memory shown. */
async function healthy(): Promise<boolean> {
  const peer = await connect();
  const make = new TestFds();
  peer.send(table(region(0, 4096)), [make.memory(4096)]);
  make.close();
  const reply = await peer.next();
  peer.close();
  return reply?.readBigUInt64LE(12) === 0n;
}

/** Open fds of the device with the backend attached and no frontend. */
const idle = new IdleFds(device);
test.before(async (t) => {
  t.true(await healthy());
  await idle.measure();
});

async function outcome(peer: RawPeer, input: VhostUserInput): Promise<string> {
  if (input.outcome === 'waits') {
    await new Promise((resolve) => setTimeout(resolve, 50));
    return peer.closed === undefined && peer.received.length === 0 ? 'waits' : 'answered';
  }
  const reply = await peer.next();
  if (!reply) return 'dropped';
  if (reply.length !== 20 || reply.readBigUInt64LE(12) === 0n) return 'accepted';
  // The connection goes on.
  const after = await ask(peer, GET_FEATURES);
  return after.readUInt32LE(0) === 1 ? 'refused' : 'confused';
}

for (const input of VHOST_USER_INPUTS) {
  test.serial(`vhost-user: ${input.name}`, async (t) => {
    const peer = await connect();
    t.teardown(() => peer.close());
    const make = new TestFds();
    peer.send(input.bytes, input.fds?.(make) ?? []);
    make.close();
    t.is(await outcome(peer, input), input.outcome);
    peer.close();
    t.is(await idle.settled(), idle.count, 'open fds of the device');
    t.true(await healthy(), 'the next frontend is served');
  });
}

test.serial('vhost-user: memory that shrinks under the device', async (t) => {
  const peer = await connect();
  t.teardown(() => peer.close());
  // Not sealed: a file in /dev/shm, as a careless VMM would share.
  const path = `/dev/shm/vvu-shrinks-${process.pid}`;
  const fd = native.openFile(path, { writable: true, create: 65536 });
  t.teardown(async () => {
    native.closeFd(fd);
    await import('node:fs/promises').then(({ unlink }) => unlink(path));
  });
  peer.send(table(region(0, 65536)), [fd]);
  t.is((await peer.next())?.readBigUInt64LE(12), 0n);
  ftruncateSync(fd, 0);
  const { memory } = backend.driver.window;
  t.deepEqual(memory.read(8192, 16), Buffer.alloc(16), 'zeros in place of what is gone');
  t.is(await peer.next(), undefined, 'the frontend is dropped');
  t.is(await idle.settled(), idle.count);
  t.true(await healthy());
});

test.serial('vhost-user: a dirty log that shrinks under the device', async (t) => {
  const peer = await connect();
  t.teardown(() => peer.close());
  const path = `/dev/shm/vvu-log-shrinks-${process.pid}`;
  const fd = native.openFile(path, { writable: true, create: 8192 });
  t.teardown(() => {
    native.closeFd(fd);
    unlinkSync(path);
  });
  peer.send(request(16, u64(PROTOCOL_FEATURES | LOG_SHMFD), FLAGS));
  peer.send(request(6, Buffer.concat([u64(8192), u64(0)]), FLAGS), [fd]);
  t.is((await peer.next())?.readUInt32LE(0), 6);
  const { window } = backend.driver;
  t.is(window.orByte(5000, 3), 0);
  t.is(window.orByte(5000, 4), 3);
  ftruncateSync(fd, 0);
  t.is(window.orByte(5000, 8), 0, 'zeros in place of what is gone');
  t.is(await peer.next(), undefined, 'the frontend is dropped');
  t.is(await idle.settled(), idle.count);
  t.true(await healthy());
});

test.serial('the names of the table are distinct', (t) => {
  t.is(new Set(VHOST_USER_INPUTS.map(({ name }) => name)).size, VHOST_USER_INPUTS.length);
});
